from jobs.megatron.device import import_megatron

import_megatron()
