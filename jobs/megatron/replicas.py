"""A model beside its replicas on other data- and context-parallel ranks: their gradients are summed while the backward
pass makes the next ones, and the weights that a distributed optimizer has stepped elsewhere are gathered while the next
forward pass uses those before them."""

from __future__ import annotations

from megatron.core import parallel_state
from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig, finalize_model_grads
from megatron.core.models.gpt import GPTModel

from conf.stages.training import Training
from jobs.megatron import experts


def wrapped(model: GPTModel, config: Training) -> DistributedDataParallel:
    """`model` with Megatron's buckets of gradients and weights; collective.

    After a step a rank may have the others' weights of before it. A module waits for its own when it is called: in the
    next pass over the model, which all ranks begin together. Whoever reads them elsewhere calls `gather`."""
    overlap = parallel_state.get_data_parallel_world_size(with_context_parallel=True) > 1
    overlap = overlap and not experts.one_by_one(model)
    shared = config.parallel.distributed_optimizer
    settings = DistributedDataParallelConfig(
        grad_reduce_in_fp32=True,
        use_distributed_optimizer=shared,
        overlap_grad_reduce=overlap,
        overlap_param_gather=shared and overlap and not config.average,  # which reads all after each step
    )
    replica = DistributedDataParallel(model.config, settings, model)
    if overlap:
        model.config.no_sync_func = replica.no_sync  # those of all micro-batches but the last only add up
    # Otherwise replicated parameters drift between ranks.
    model.config.finalize_model_grads_func = finalize_model_grads
    return replica


def gather(replica: DistributedDataParallel) -> None:
    """Wait until this rank has all weights as they were stepped; collective. Does nothing where it has."""
    if not replica.ddp_config.overlap_param_gather:
        return
    for buckets in (replica.bucket_groups, replica.expert_parallel_bucket_groups):
        for bucket in reversed(buckets):  # the order of a forward pass: each one begins the next
            bucket.finish_param_sync()
