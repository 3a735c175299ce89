"""Networks of other code, known by the names of their arrays: what a file is that says nothing of itself."""

import dataclasses
import re
from pathlib import Path

from pplemd.errors import ImporterError
from pplemd.importers.network_places import StateDicts

WAY = 'What works: write its forward pass in JAX and fill it with these arrays: docs/teachers.md, "Any PyTorch module".'


@dataclasses.dataclass(frozen=True)
class Format:
    """One kind of network.

    Attributes:
        what: what it is called.
        names: patterns, each of which is found among its arrays' names.
        repair: how pplemd reads it; None where it does not.
    """

    what: str
    names: tuple[str, ...]
    repair: str | None = None

    @property
    def sentence(self) -> str:
        """What it is and what to do, for people."""
        if self.repair is not None:
            return f"Its names are those of {self.what}: {self.repair}."
        return f"Its names are those of {self.what}, which pplemd does not read yet. {WAY}"


FORMATS = (  # the first that fits; ^ is the beginning of a name, or of one of its parts
    Format("a LoRA, which changes the weights of another network", (r"lora[_.]",)),
    Format(
        "a Stable Diffusion checkpoint (.ckpt: network, autoencoder and text encoder of latent diffusion in one file)",
        (r"^model\.diffusion_model\.|^diffusion_model\.", r"^first_stage_model\.|^cond_stage_model\.|^conditioner\."),
    ),
    Format("a U-Net of Stable Diffusion (latent diffusion)", (r"^diffusion_model\.input_blocks\.",)),
    Format(
        "a U-Net of Stable Diffusion (latent diffusion)", (r"^input_blocks\.", r"^transformer_blocks\.\d+\.attn2\.")
    ),
    Format("a ControlNet", (r"^controlnet_cond_embedding\.|^zero_convs\.|^input_hint_block\.",)),
    Format("guided-diffusion (OpenAI's ADM and improved-diffusion)", (r"^input_blocks\.\d+\.\d+\.", r"^time_embed\.")),
    Format("guided-diffusion's encoder (a classifier)", (r"^input_blocks\.\d+\.\d+\.",)),
    Format("a multimodal diffusion transformer (Stable Diffusion 3, Flux)", (r"^joint_blocks\.\d|^double_blocks\.\d",)),
    Format("PixArt", (r"^x_embedder\.", r"^blocks\.\d+\.cross_attn\.")),
    Format("DiT or SiT", (r"^x_embedder\.|^t_embedder\.", r"^blocks\.\d+\.adaLN_modulation\.|^final_layer\.")),
    Format("diffusers' DiTTransformer2DModel (DiT)", (r"^transformer_blocks\.\d+\.norm1\.emb\.",)),
    Format("EDM2", (r"^emb_fourier\.|^emb_noise\.|^emb_label\.", r"^enc\.|^dec\.|^out_gain")),
    Format(
        "EDM (SongUNet, DhariwalUNet)",
        (r"^map_layer0\.", r"^enc\.|^dec\."),
        "give EDM's .pkl, which knows its configuration, or put a config.json with the arguments of its constructor "
        "(img_resolution, model_type, ...) beside it",
    ),
    Format("k-diffusion", (r"^u_net\.d_blocks\.|^mapping\.", r"^timestep_embed\.|^time_emb\.|^patch_in\.|^proj_in\.")),
    Format(
        "diffusers' UNet2DConditionModel (Stable Diffusion)",
        (r"^down_blocks\.\d+\.attentions\.\d+\.transformer_blocks\.",),
    ),
    Format("diffusers' AutoencoderKL or VQModel", (r"^encoder\.down_blocks\.", r"^decoder\.|^quant_conv\.")),
    Format("an autoencoder of latent diffusion", (r"^encoder\.down\.\d", r"^decoder\.up\.\d")),
    Format(
        "diffusers' UNet2DModel",
        (r"^time_embedding\.linear_1\.", r"^down_blocks\.|^downsample_blocks\."),
        "put its config.json beside it, and its scheduler_config.json, which says what it predicts; or give the folder "
        "of the pipeline",
    ),
    Format("denoising-diffusion-pytorch", (r"^init_conv\.", r"^downs\.\d")),
    Format("score_sde_pytorch (NCSN++, DDPM++)", (r"^all_modules\.\d",)),
    Format("the DDPM and DDIM code in PyTorch", (r"^temb\.dense\.", r"^down\.\d+\.block\.")),
    Format("U-ViT", (r"^in_blocks\.\d", r"^out_blocks\.\d")),
    Format("CLIP or another text encoder", (r"^text_model\.encoder\.|^transformer\.resblocks\.",)),
    Format(
        "a pixel transformer",
        (r"^patch_embed\.weight", r"^unpatch\.weight"),
        'put a config.json with {"architecture": "pixel_transformer", "heads": ...} beside it',
    ),
)


def recognised(found: StateDicts) -> Format | None:
    """The kind of network that arrays are of, by their names alone.

    Args:
        found: the arrays, by place and name.
    """
    text = "\n".join(name for arrays in found.values() for name in arrays)
    for one in FORMATS:
        if all(re.search(pattern.replace("^", r"(?m:^|\.)"), text) for pattern in one.names):
            return one
    return None


def unsaid(path: Path, known: Format | None) -> ImporterError:
    """The error of weights of which nothing says what network they are."""
    if known is not None and known.repair is None:
        return ImporterError(f"{path} holds weights alone. {known.sentence}")
    words = f" {known.sentence}" if known is not None else f" Or, for a network of another kind: {WAY}"
    return ImporterError(
        f"{path} holds weights alone; expected a {path.stem}.json or a config.json beside it, which says of what "
        f"network they are. Put it there.{words}"
    )
