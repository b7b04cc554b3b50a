"""The model card of a student: origin, data, scores, licences and serving commands."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from conf.recipe import Recipe
from conf.report.report import Report
from conf.report.row import Row
from tasks.handover import licences, serving
from tasks.handover.licences import UNKNOWN, Licence
from tasks.store import lineage

SYNTHETIC = {
    "world": "imbik's synthetic world",
    "generated": "the teacher's answers to prompts (synthetic)",
    "written": "documents that the teacher wrote (synthetic)",
}
"""Sources of text that no one wrote."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Origin of a model or dataset: display name, hub id (None if not on the hub) and licence."""

    name: str
    hub: str | None
    licence: Licence


def write(recipe: Recipe, report: Report, row: Row) -> tuple[str, Licence]:
    """The model card of a report row with the hub's YAML block, and the teacher's licence."""
    ancestors = lineage.of(Path(row.path).parent)
    teacher, data = teacher_of(recipe, ancestors), data_of(recipe, ancestors)
    parts = [_head(recipe, report, row), _origin(recipe, row, ancestors, teacher, data), _scores(report, row)]
    parts += [_licences(recipe, teacher, data), _serve(row), _made(ancestors)]
    return f"---\n{_metadata(recipe, report, row, teacher, data)}\n---\n\n" + "\n\n".join(parts) + "\n", teacher.licence


def teacher_of(recipe: Recipe, ancestors: list[lineage.Ancestor]) -> Origin:
    """Origin of the teacher: the hub, a folder, or trained from scratch by the recipe."""
    stated = recipe.card.teacher_license
    if recipe.teacher.model is None:
        licence = Licence(
            name=stated or UNKNOWN, found="the recipe" if stated else "trained from scratch by this recipe"
        )
        return Origin(name="a model trained from scratch by the same recipe", hub=None, licence=licence)
    ancestor = lineage.first(ancestors, "teacher")
    folder = Path(ancestor.inputs["model"]) if ancestor and ancestor.inputs.get("model") else Path(recipe.teacher.model)
    model = Path(recipe.teacher.model)
    hub, _, commit = (None, "", "") if model.is_dir() else recipe.teacher.model.partition("@")
    licence = Licence(name=stated, found="the recipe") if stated else licences.read_licence(folder, hub or model.name)
    if hub:
        return Origin(name=f"{hub} at {commit}" if commit else hub, hub=hub, licence=licence)
    named = licences.metadata(folder / "README.md").get("base_model")
    return Origin(
        name=f"{model.name} (card: based on {named})" if isinstance(named, str) else model.name,
        hub=None,
        licence=licence,
    )


def data_of(recipe: Recipe, ancestors: list[lineage.Ancestor]) -> list[Origin]:
    """Origins of the data: hub datasets, local files, the synthetic world, corpora of a blend, and records of a
    fine-tuned student."""
    corpora = [recipe.data.source]
    if recipe.blend and lineage.first(ancestors, "blend"):
        corpora += [one.source for one in recipe.blend.sources.values()]
    sources = [source for corpus in corpora for source in ([corpus] if isinstance(corpus, str) else corpus)]
    if recipe.records and lineage.first(ancestors, "sft"):
        sources += recipe.records.sources
    return [_source(recipe, source, ancestors) for source in dict.fromkeys(sources)]


def _source(recipe: Recipe, source: str, ancestors: list[lineage.Ancestor]) -> Origin:
    stated = recipe.card.data_license
    stated_licence = Licence(name=stated, found="the recipe") if stated else None
    if name := SYNTHETIC.get(source):
        return Origin(name=name, hub=None, licence=stated_licence or Licence(found="synthetic text"))
    path = Path(source)
    if path.exists() or any(mark in source for mark in "*?["):
        folder = path if path.is_dir() else path.parent
        return Origin(
            name=path.name,
            hub=None,
            licence=stated_licence or (licences.read_licence(folder) if folder.is_dir() else Licence()),
        )
    hub, _, commit = source.partition("@")
    card_folders = [each.folder / "cards" / hub.replace("/", "--") for each in ancestors if each.record.stage == "data"]
    licence = next((licences.read_licence(place, hub) for place in card_folders if place.is_dir()), Licence())
    return Origin(name=f"{hub} at {commit}" if commit else hub, hub=hub, licence=stated_licence or licence)


def _metadata(recipe: Recipe, report: Report, row: Row, teacher: Origin, data: list[Origin]) -> str:
    from huggingface_hub import ModelCardData

    hubs = [origin.hub for origin in data if origin.hub]
    licence = recipe.card.license or teacher.licence.name
    relation = ("quantized" if row.stage == "quantize" else "finetune") if teacher.hub else None
    algorithm = serving.read(Path(row.path), row.model).algorithm
    tags = [
        "imbik",
        "pruned",
        "distillation",
        "model_optimizer" if algorithm else "megatron-core",
        *([row.format] if row.format else []),
    ]
    card_data = ModelCardData(
        base_model=teacher.hub,
        datasets=hubs or None,
        language=list(recipe.card.language) or None,
        library_name="Model Optimizer" if algorithm else "transformers",
        license=licence,
        pipeline_tag="text-generation",
        tags=tags,
        model_name=f"{report.name}-{row.model}",
        eval_results=_results(recipe, row, data),
        base_model_relation=relation,
    )
    return str(card_data.to_yaml()).strip()


def _results(recipe: Recipe, row: Row, data: list[Origin]) -> Any:
    from huggingface_hub import EvalResult

    corpus = data[0].hub or ("imbik/world" if recipe.data.source == "world" else data[0].name)
    task, name = "text-generation", "Text generation"
    results = [
        EvalResult(
            task, corpus, "test split of the corpus", "perplexity", row.perplexity, name, metric_name="perplexity"
        )
    ]
    if row.mmlu is not None and recipe.evaluate.mmlu:
        quiz = recipe.evaluate.mmlu.path == "quiz"
        kind, dataset = ("imbik/quiz", "the quiz of the corpus") if quiz else ("cais/mmlu", "MMLU")
        label = f"accuracy, {row.shots}-shot, n = {row.mmlu_n}"
        results.append(EvalResult(task, kind, dataset, "accuracy", row.mmlu, name, metric_name=label))
    return results


def _head(recipe: Recipe, report: Report, row: Row) -> str:
    size = f"{row.num_params:,} parameters, {row.bytes / 1e6:,.2f} MB of weights"
    about = f"\n\n{recipe.description}" if recipe.description else ""
    return f"# {report.name}-{row.model}\n\n{size}, made by imbik.{about}"


def _origin(recipe: Recipe, row: Row, ancestors: list[lineage.Ancestor], teacher: Origin, data: list[Origin]) -> str:
    lines = [f"- **Teacher**: {teacher.name}."]
    cut = lineage.first(ancestors, "prune")
    if cut:
        settings = {key: value for key, value in cut.record.hashed.items() if value not in (None, [], False)}
        lines.append(
            f"- **Pruned**: {', '.join(f'{key} {value}' for key, value in settings.items())}; {row.share_params:.0%} of"
            " the parameters."
        )
    for stage, verb in (("distill", "Distilled"), ("sft", "Fine-tuned")):
        ancestor = lineage.first(ancestors, stage)
        if ancestor:
            config = ancestor.record.config
            tokens = config["steps"] * config["global_batch"] * config["seq_length"]
            kind = f", {config['loss']}" if stage == "distill" else ""
            lines.append(
                f"- **{verb}**: {config['steps']} steps of {config['global_batch']} x {config['seq_length']} tokens"
                f" ({tokens:,}){kind}."
            )
    quantized = lineage.first(ancestors, "quantize")
    if quantized:
        lines.append(
            f"- **Quantized**: {row.format}, NVIDIA ModelOpt {quantized.record.versions.get('nvidia-modelopt', '')}."
        )
    lines.append(f"- **Data**: {'; '.join(origin.name for origin in data)}.")
    return "## Origin\n\n" + "\n".join(lines)


def _scores(report: Report, row: Row) -> str:
    from tasks.report import render as page

    teacher = report.rows[0]
    shown = (teacher,) if row is teacher else (teacher, row)
    header, *cells = page.cells(shown)
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header), *(f"| {' | '.join(line)} |" for line in cells)]
    paragraphs = [page.about(report)]
    chance = report.chance
    if row.mmlu is not None and row.mmlu_ci95 is not None and chance is not None:
        low, high = row.mmlu_ci95
        verdict = "above" if low > chance else "not shown to be above"
        paragraphs.append(
            f"The score of {row.mmlu:.1%} (95% interval {low:.1%} to {high:.1%}) is {verdict} chance ({chance:.0%})."
        )
        against = row.against_teacher
        if against.mmlu is not None and against.mmlu_ci95 is not None:
            low, high = against.mmlu_ci95
            paragraphs.append(
                f"Difference from the teacher: {against.mmlu * 100:+.1f} points (paired, 95% interval"
                f" {low * 100:+.1f} to {high * 100:+.1f})."
            )
    paragraphs.append(f"The loss differs from the teacher's by {row.val_loss - teacher.val_loss:+.4f} nats per token.")
    if row.simulated:
        paragraphs.append("It was evaluated with quantization simulated by ModelOpt, not on an inference engine.")
    paragraphs += [gate.sentence for gate in report.gates if gate.model == row.model]
    return "## Scores\n\n" + "\n".join(lines) + "\n\n" + "\n\n".join(paragraphs)


def _licences(recipe: Recipe, teacher: Origin, data: list[Origin]) -> str:
    lines = [f"- Teacher, {teacher.name}: **{teacher.licence.name}** ({teacher.licence.found})."]
    lines += [f"- Data, {origin.name}: **{origin.licence.name}** ({origin.licence.found})." for origin in data]
    if recipe.card.license:
        lines.append(f"- This model: **{recipe.card.license}** (the recipe).")
    else:
        lines.append(f"- This model: **{teacher.licence.name}**, inherited from its teacher.")
    if UNKNOWN in (teacher.licence.name, *(origin.licence.name for origin in data)):
        lines.append(
            "- imbik found no statement of the unknown licences; clarify them before you distribute the model."
        )
    return "## Licences\n\n" + "\n".join(lines)


def _serve(row: Row) -> str:
    model = _portable(row)
    lines = []
    if model.algorithm:
        lines.append(
            f"The weights are packed: {model.algorithm}, the unified checkpoint of NVIDIA Model Optimizer. `imbik chat`"
            " and the engines below that have a command unpack them by their scales. **Do not open it with"
            " transformers**, which reads the packed numbers without their scales: it warns, and answers nonsense."
        )
    for each in serving.commands(model, 1):
        note = f" ({each.note})" if each.note else ""
        lines.append(
            f"{each.engine}{note}:\n\n```bash\n{each.command}\n```" if each.command else f"{each.engine}: {each.note}."
        )
    return "## How to run it\n\nIn the folder of this model:\n\n" + "\n\n".join(lines)


def _portable(row: Row) -> serving.ServedModel:
    """The checkpoint with a path relative to its own folder."""
    return replace(serving.read(Path(row.path), row.model), path=Path())


def _made(ancestors: list[lineage.Ancestor]) -> str:
    lines = ["| stage | key | commit |", "|---|---|---|"]
    lines += [f"| {each.record.stage} | {each.record.key} | {each.record.commit or UNKNOWN} |" for each in ancestors]
    newest = ancestors[0].record.versions
    versions = ", ".join(f"{name} {version}" for name, version in newest.items())
    return "## How it was made\n\n" + "\n".join(lines) + f"\n\nVersions: {versions}."
