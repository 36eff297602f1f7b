"""The model card of a training run's weights, in Markdown: what they are, how good, and what they were trained on."""

import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lkdn_deploy.core.spec import LkdnSpec, Upsampler
from lkdn_deploy.export.history import History, Quality, Terms, public

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class CardFacts:
    """All that a card says.

    Attributes:
        name: of the network; with its scale, of the files.
        spec: of the network in training form.
        parameters: after fusion, with all input copies as papers count them, and in training form.
        paper: that the network is from; empty: none has these widths.
        sha256: of the weights' file.
        step: of the run, that the weights are from; None: not known.
        picked: whether they are the best by the first validation set, and not simply the newest.
        difference: largest difference of the artefact's results to the weights' in PyTorch, on 0..1.
        tools: versions of what made the files.
        history: of the training.
        terms: where the licences of the photographs may be told.
    """

    name: str
    spec: LkdnSpec
    parameters: tuple[int, int]
    paper: str
    sha256: str
    step: int | None
    picked: bool
    difference: float
    tools: Mapping[str, str]
    history: History
    terms: Terms

    @property
    def stem(self) -> str:
        """What the names of the files begin with."""
        return f"{self.name}_x{self.spec.scale}"


def card(facts: CardFacts) -> str:
    """The card. What is not known is said to be so."""
    sections = (_network, _use, _quality, _data, _training, _licence)
    return "\n\n".join(part for section in sections for part in section(facts)) + "\n"


def _network(facts: CardFacts) -> Iterator[str]:
    spec, (fused, branched) = facts.spec, facts.parameters
    upsampler = "re-parameterised" if spec.upsampler is Upsampler.REP else "plain"
    yield f"# Model card: {facts.name} x{spec.scale}"
    yield _prose(
        f"A network that enlarges pictures {spec.scale} times: {_counted(spec.blocks, 'block')} of the kind "
        f"{spec.block.upper()}, {spec.channels} channels, {spec.attention_channels} in the attention, {upsampler} "
        "up-sampler.",
        f"It has {fused:,} parameters fused, {branched:,} in training form."
        if branched != fused
        else f"It has {fused:,} parameters, and no branches to fuse.",
        f"The network is from {facts.paper}. These weights are not its authors'." if facts.paper else "",
    )


def _use(facts: CardFacts) -> Iterator[str]:
    lines = (
        f"lkdn-upscale in.png out.png --model {facts.stem}.onnx",
        f"lkdn-export --fuse --onnx --weights {facts.stem}.safetensors",
    )
    yield "## Use"
    yield "```sh\n" + "\n".join(lines) + "\n```"
    checked = f"compared with them in PyTorch: on 0..1 its results differ by {facts.difference:.1e} at most"
    yield _table(
        ("file", "what it is"),
        (f"`{facts.stem}.safetensors`", f"the weights in training form; SHA-256 `{facts.sha256}`"),
        (f"`{facts.stem}.onnx`", f"the same, {'' if facts.spec.fused else 'fused, '}{checked}"),
    )
    yield _prose(f"Trained with {_versions(facts.history.tools)}; exported with {_versions(facts.tools)}.")


def _quality(facts: CardFacts) -> Iterator[str]:
    history = facts.history
    yield "## Quality"
    if not (reached := history.reached(facts.step)):
        yield _prose(f"{UNKNOWN.capitalize()}: the training run's log holds no measurement of these weights.")
        return
    bicubic = history.bicubic or {}
    yield _table(
        ("set", "this model", "bicubic"),
        *((name, _figures(quality), _figures(bicubic.get(name))) for name, quality in reached.items()),
    )
    yield _prose(
        f"PSNR in dB / SSIM on luma, border {facts.spec.scale}, mean over the pictures of a set.",
        "Measured by the training run, in PyTorch. Low-resolution pictures were made by `imaging.resample` (mirrored "
        "edge), bicubic by the same.",
        # Photographs that come as pairs keep their own low-resolution pictures, and the log does not tell.
        "`held-out` are details of photographs that were kept out of the training; those that came with low-resolution "
        "pictures were measured with these."
        if "held-out" in reached
        else "",
    )
    if facts.picked and len(history.validations) > 1:
        yield _prose(
            f"The run was measured {len(history.validations)} times. These weights were picked because they did best "
            f"on {next(iter(reached))}, so that figure flatters them a little."
        )


def _data(facts: CardFacts) -> Iterator[str]:
    history = facts.history
    yield "## Data"
    yield _list(
        {
            "photographs": _known(history.images),
            "megapixels in all": _known(history.megapixels),
            "folders": UNKNOWN if history.folders is None else _codes(map(public, history.folders)),
        }
    )


def _training(facts: CardFacts) -> Iterator[str]:
    recipe = facts.history.recipe or {}
    crops, settings = _inner(recipe, "data"), _inner(recipe, "optimisation")
    init = facts.history.init
    yield "## Training"
    yield _list(
        {
            "loss": _known(settings.get("loss")).upper() if "loss" in settings else UNKNOWN,
            "optimiser": _known(settings.get("optimiser")).capitalize() if "optimiser" in settings else UNKNOWN,
            "learning rate": _rate(settings)
            + "".join(
                f"; until step {_known(step)} the run was planned for {_known(before)} steps, which moved the fall"
                for step, before in facts.history.replanned
            ),
            "batch": f"{_known(crops.get('batch'))} crops; their side in LR pixels: {_known(crops.get('patch'))}",
            "steps": f"{_known(facts.step)} of {_known(facts.history.planned)}",
            "average of the weights (EMA), which these are": f"keeps {_known(settings.get('ema'))} in a step",
            "seed": _known(recipe.get("seed")),
            "started from": UNKNOWN if init is None else _codes([public(init)]) if init else "random weights",
        }
    )
    if recipe:
        yield "The whole recipe, as `lkdn-train` takes it:"
        yield f"```toml\n{as_toml(recipe)}```"
    else:
        yield "The log does not hold the recipe."


def _licence(facts: CardFacts) -> Iterator[str]:
    history, terms = facts.history, facts.terms
    weights = f" and of the weights that it started from ({_codes([public(history.init)])})" if history.init else ""
    if history.init is None:
        weights = " and of the weights that it may have started from"
    yield "## Licence"
    yield _prose(
        "**To be filled in by whoever publishes these weights.** Nothing was checked here. Look up the licences of the "
        f"photographs trained on{weights}: whether they allow training, whether weights trained on them must carry the "
        "same licence or name the authors, and whether commercial use is excluded."
    )
    if terms.files:
        yield _prose(f"Files that may tell: {_codes(terms.files)}.")
    elif history.folders and not terms.absent:
        yield _prose("The folders hold no file that tells by its name: SOURCES.md, LICENSE, CREDITS and the like.")
    if terms.absent:
        yield _prose(f"Not there when this card was made, so not looked into: {_codes(terms.absent)}.")


def _rate(settings: Mapping[str, Any]) -> str:
    """``0.005, growing to it over the first 100 steps, falling to zero ...``"""
    parts = [_known(settings.get("learning_rate"))]
    if warm_up := settings.get("warm_up"):
        parts.append(f"growing to it over the first {_known(warm_up)} steps")
    if milestones := settings.get("milestones"):
        parts.append(f"times {_known(settings.get('factor'))} from each of these steps on: {_known(milestones)}")
    if tail := settings.get("tail"):
        share = f"{100 * tail:g} % of the" if isinstance(tail, (int, float)) else UNKNOWN
        parts.append(f"falling to zero along a cosine over the last {share} steps")
    return ", ".join(parts if len(parts) > 1 or not settings else [*parts, "constant"])


def _versions(tools: Mapping[str, str] | None) -> str:
    return ", ".join(f"{tool} {version}" for tool, version in tools.items()) if tools else "unknown tools"


def as_toml(table: Mapping[str, Any]) -> str:
    """A recipe's keys and then its tables, as TOML. What is None, which TOML has no word for, is left out."""
    keys = {name: value for name, value in table.items() if not isinstance(value, Mapping) and value is not None}
    tables = {name: value for name, value in table.items() if isinstance(value, Mapping)}
    return "".join(
        [f"{name} = {_toml(value)}\n" for name, value in keys.items()]
        + [f"\n[{name}]\n{as_toml(value)}" for name, value in tables.items()]
    )


def _toml(value: Any) -> str:
    if isinstance(value, float):
        return repr(value)  # JSON writes Infinity where TOML has inf
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _inner(table: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = table.get(name)
    return value if isinstance(value, Mapping) else {}


def _known(value: Any) -> str:
    """A value for people, or that it is not known."""
    if value is None:
        return UNKNOWN
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_known, value))
    if isinstance(value, float):
        return f"{value:,.10g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _figures(quality: Quality | None) -> str:
    """``31.173 / 0.8800``"""
    if quality is None:
        return UNKNOWN
    return f"{quality.psnr:.3f}" + ("" if quality.ssim is None else f" / {quality.ssim:.4f}")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name.replace('`', '?')}`" for name in names)


def _prose(*sentences: str) -> str:
    return textwrap.fill(" ".join(filter(None, sentences)), 120, break_long_words=False, break_on_hyphens=False)


def _list(items: Mapping[str, str]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in items.items())


def _table(*rows: Sequence[str]) -> str:
    """The first row is the head."""
    head, *others = ("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in rows)
    return "\n".join([head, "| --- " * len(rows[0]) + "|", *others])
