"""A UNet2DModel computed again with numpy in double precision, channels first, straight from its state dict."""

import math
from typing import Any

import numpy as np
from scipy.special import erf

Weights = dict[str, np.ndarray]
DEFAULTS = {
    "layers_per_block": 2, "norm_eps": 1e-5, "attention_head_dim": 8, "mid_block_scale_factor": 1, "act_fn": "silu",
    "freq_shift": 0, "flip_sin_to_cos": True, "downsample_padding": 1, "add_attention": True,
    "mid_block_type": "UNetMidBlock2D", "time_embedding_type": "positional", "norm_num_groups": 32,
}  # fmt: skip


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


ACTIVATIONS = {
    "silu": silu,
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    "gelu": lambda x: x * (1 + erf(x / math.sqrt(2))) / 2,
    "relu": lambda x: np.maximum(x, 0),
}


def linear(w: Weights, key: str, x: np.ndarray) -> np.ndarray:
    return x @ w[f"{key}.weight"].reshape(len(w[f"{key}.weight"]), -1).T + w[f"{key}.bias"]


def conv(w: Weights, key: str, x: np.ndarray, stride: int = 1, pad: tuple[int, int] | None = None) -> np.ndarray:
    kernel = w[f"{key}.weight"]
    size = kernel.shape[-1]
    sides = pad or (size // 2, size // 2)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, ((0, 0), sides, sides)), (size, size), (1, 2))
    return np.einsum("chwij,ocij->ohw", windows[:, ::stride, ::stride], kernel) + w[f"{key}.bias"][:, None, None]


def norm(w: Weights, key: str, x: np.ndarray, groups: int, eps: float) -> np.ndarray:
    flat = x.reshape(groups, -1)
    flat = (flat - flat.mean(1, keepdims=True)) / np.sqrt(flat.var(1, keepdims=True) + eps)
    return flat.reshape(x.shape) * w[f"{key}.weight"][:, None, None] + w[f"{key}.bias"][:, None, None]


def repeated(x: np.ndarray) -> np.ndarray:
    return x.repeat(2, 1).repeat(2, 2)


def pooled(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), x.shape[1] // 2, 2, x.shape[2] // 2, 2).mean((2, 4))


def fir(x: np.ndarray, up: bool) -> np.ndarray:
    """The filter (1, 3, 3, 1): on an image with zeros between its pixels, or at every second one of what it makes."""
    taps = np.array([1, 3, 3, 1]) / 8
    if up:
        wide = np.zeros((len(x), 2 * x.shape[1], 2 * x.shape[2]))
        wide[:, ::2, ::2] = 4 * x
        x = np.pad(wide, ((0, 0), (2, 1), (2, 1)))
    else:
        x = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (4, 4), (1, 2))
    out = np.einsum("chwij,i,j->chw", windows, taps, taps)
    return out if up else out[:, ::2, ::2]


class Reference:
    """One network.

    Args:
        config: its configuration.
        weights: its state dict.
    """

    def __init__(self, config: dict[str, Any], weights: Weights):
        self.c = DEFAULTS | config
        self.w = {key: np.asarray(value, np.float64) for key, value in weights.items()}
        self.act = ACTIVATIONS[self.c["act_fn"]]

    def __call__(self, x: np.ndarray, time: float, label: int | None = None) -> np.ndarray:
        """The output for one image, channels first."""
        c, w = self.c, self.w
        self.emb = self.condition(time, label)
        h, image = self.way_out(self.way_in(2 * x - 1 if c.get("center_input_sample") else x))
        out = conv(w, "conv_out", silu(norm(w, "conv_norm_out", h, self.groups(h), c["norm_eps"])))
        out = out if image is None else out + image
        return out / time if c["time_embedding_type"] == "fourier" else out

    def way_in(self, x: np.ndarray) -> list[np.ndarray]:
        c, aside = self.c, x
        skips = [conv(self.w, "conv_in", x)]
        for i, kind in enumerate(c["down_block_types"]):
            prefix, skip = f"down_blocks.{i}", "Skip" in kind
            for j in range(c["layers_per_block"]):
                h = self.block(skips[-1], f"{prefix}.resnets.{j}", skip)
                skips.append(self.attend(h, f"{prefix}.attentions.{j}", skip))
            if i < len(c["down_block_types"]) - 1:
                h = self.halve(skips[-1], prefix, skip)
                aside = fir(aside, up=False) if skip else aside
                skips.append(h + conv(self.w, f"{prefix}.skip_conv", aside) if skip else h)
        return skips

    def way_out(self, skips: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
        c, h, image = self.c, skips[-1], None
        if c["mid_block_type"]:
            scale = c["mid_block_scale_factor"]
            h = self.block(h, "mid_block.resnets.0", False, scale)
            h = self.attend(h, "mid_block.attentions.0", False, scale, c.get("attn_norm_num_groups"))
            h = self.block(h, "mid_block.resnets.1", False, scale)
        for i, kind in enumerate(c["up_block_types"]):
            skip, last, prefix = "Skip" in kind, i == len(c["up_block_types"]) - 1, f"up_blocks.{i}"
            for j in range(c["layers_per_block"] + 1):
                aside = skips.pop()
                first = min(len(h) + len(aside) // 4, 32) if kind == "AttnSkipUpBlock2D" else None
                h = self.block(np.concatenate([h, aside]), f"{prefix}.resnets.{j}", skip, first=first)
                h = h if skip else self.attend(h, f"{prefix}.attentions.{j}", skip)
            if skip:
                h = self.attend(h, f"{prefix}.attentions.0", skip)
                image = self.built_up(h, prefix, image, last)
            h = h if last else self.double(h, prefix, skip)
        return h, image

    def built_up(self, h: np.ndarray, prefix: str, image: np.ndarray | None, last: bool) -> np.ndarray | None:
        """The image doubled, and what a level adds to it."""
        doubled = None if image is None else fir(image, up=True)
        if last:
            return doubled
        normed = norm(self.w, f"{prefix}.skip_norm", h, min(len(h) // 4, 32), self.c["norm_eps"])
        added = conv(self.w, f"{prefix}.skip_conv", silu(normed))
        return added if doubled is None else doubled + added

    def groups(self, x: np.ndarray) -> int:
        return self.c["norm_num_groups"] or min(len(x) // 4, 32)

    def waves(self, time: float) -> np.ndarray:
        c, half = self.c, self.c["block_out_channels"][0] // 2
        if c["time_embedding_type"] == "fourier":
            angles = np.log(time) * self.w["time_proj.weight"] * 2 * np.pi
            return np.concatenate([np.sin(angles), np.cos(angles)])
        if c["time_embedding_type"] == "learned":
            return self.w["time_proj.weight"][round(time)]
        angles = time * 10000.0 ** (-np.arange(half) / (half - c["freq_shift"]))
        parts = np.sin(angles), np.cos(angles)
        return np.concatenate(parts[::-1] if c["flip_sin_to_cos"] else parts)

    def condition(self, time: float, label: int | None) -> np.ndarray:
        def layers(key: str, x: np.ndarray) -> np.ndarray:
            return linear(self.w, f"{key}.linear_2", silu(linear(self.w, f"{key}.linear_1", x)))

        emb = layers("time_embedding", self.waves(time))
        if label is not None and "class_embedding.weight" in self.w:
            emb = emb + self.w["class_embedding.weight"][label]
        elif label is not None:
            emb = emb + layers("class_embedding", self.waves(label))
        return self.act(emb)

    def block(
        self,
        x: np.ndarray,
        key: str,
        skip: bool,
        scale: float = 1.0,
        resize: Any = lambda x: x,
        first: int | None = None,
    ) -> np.ndarray:
        """One residual block; its groups depend on the channels in levels with a skip."""
        w, eps = self.w, self.c["norm_eps"]
        scale = math.sqrt(2) if skip else scale
        count = (lambda h: min(len(h) // 4, 32)) if skip else self.groups
        h = conv(w, f"{key}.conv1", resize(self.act(norm(w, f"{key}.norm1", x, first or count(x), eps))))
        told = linear(w, f"{key}.time_emb_proj", self.emb)[:, None, None]
        if self.c.get("resnet_time_scale_shift") == "scale_shift":
            h = norm(w, f"{key}.norm2", h, count(h), eps)
            h = h * (1 + told[: len(h)]) + told[len(h) :]
        else:
            h = norm(w, f"{key}.norm2", h + told, count(h), eps)
        h = conv(w, f"{key}.conv2", self.act(h))
        x = resize(x)
        return (h + (conv(w, f"{key}.conv_shortcut", x) if f"{key}.conv_shortcut.weight" in w else x)) / scale

    def attend(self, x: np.ndarray, key: str, skip: bool, scale: float = 1.0, groups: int | None = None) -> np.ndarray:
        """Attention, where the level has it."""
        if f"{key}.to_q.weight" not in self.w:
            return x
        normed = x
        if f"{key}.group_norm.weight" in self.w:
            normed = norm(self.w, f"{key}.group_norm", x, 32 if skip else groups or self.groups(x), self.c["norm_eps"])
        tokens = normed.reshape(len(x), -1).T
        q, k, v = (linear(self.w, f"{key}.to_{name}", tokens) for name in "qkv")
        size = self.c["attention_head_dim"] or len(x)
        parts = []
        for start in range(0, q.shape[1], size):
            head = slice(start, start + size)
            scores = q[:, head] @ k[:, head].T / math.sqrt(size)
            weights = np.exp(scores - scores.max(1, keepdims=True))
            parts.append(weights / weights.sum(1, keepdims=True) @ v[:, head])
        out = linear(self.w, f"{key}.to_out.0", np.concatenate(parts, 1)).T.reshape(x.shape)
        return (x + out) / (math.sqrt(2) if skip else scale)

    def halve(self, x: np.ndarray, prefix: str, skip: bool) -> np.ndarray:
        if skip:
            return self.block(x, f"{prefix}.resnet_down", skip, resize=lambda x: fir(x, up=False))
        if f"{prefix}.downsamplers.0.conv.weight" in self.w:
            pad = (1, 1) if self.c["downsample_padding"] else (0, 1)
            return conv(self.w, f"{prefix}.downsamplers.0.conv", x, 2, pad)
        return self.block(x, f"{prefix}.downsamplers.0", skip, resize=pooled)

    def double(self, x: np.ndarray, prefix: str, skip: bool) -> np.ndarray:
        if skip:
            return self.block(x, f"{prefix}.resnet_up", skip, resize=lambda x: fir(x, up=True))
        if f"{prefix}.upsamplers.0.conv.weight" in self.w:
            return conv(self.w, f"{prefix}.upsamplers.0.conv", repeated(x))
        return self.block(x, f"{prefix}.upsamplers.0", skip, resize=repeated)
