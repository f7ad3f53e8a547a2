"""Our network against its twin in PyTorch, through a weights file; and the twin by itself."""

import math
from dataclasses import replace

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402

from sid2core.models import network  # noqa: E402
from sid2core.models.attention import Text  # noqa: E402
from sid2core.models.network import Network  # noqa: E402
from tests.models import configs, oracle  # noqa: E402
from tests.models.torch_twin import (  # noqa: E402
    Down,
    GroupNorm,
    PatchIn,
    PatchOut,
    ResBlock,
    ResidualUViT,
    TransformerBlock,
    Up,
    from_flax,
    rotary_angles,
    rotate,
)

THREE_LEVELS = {
    "image_shape": (16, 8, 3),
    "patch_size": 1,
    "channels": (4, 36, 12),
    "blocks": ("res", "res", "transformer"),
    "encoder_depth": (2, 1),
    "decoder_depth": (2, 1),
    "mid_depth": 2,
    "dropout": (0.0, 0.1, 0.2),
    "temporal_strides": (1, 1),
}
TWO_TRANSFORMERS = THREE_LEVELS | {"blocks": ("res", "transformer", "transformer")}
VIDEO = TWO_TRANSFORMERS | {"image_shape": (4, 8, 16, 3), "patch_size": 2}
CONFIGS = {
    "tiny, patch 2": {},
    "symmetric": THREE_LEVELS,
    "asymmetric": TWO_TRANSFORMERS | {"encoder_depth": (1, 2), "decoder_depth": (3, 1)},
    "levels without blocks": TWO_TRANSFORMERS | {"encoder_depth": (0, 0), "mid_depth": 0},
    "patch 4": THREE_LEVELS | {"image_shape": (32, 16, 1), "patch_size": 4},
    "one Res level": {
        "channels": (12,),
        "blocks": ("res",),
        "encoder_depth": (),
        "decoder_depth": (),
        "mid_depth": 2,
        "dropout": (0.1,),
        "temporal_strides": (),
    },
    "one Transformer level": {
        "channels": (12,),
        "blocks": ("transformer",),
        "encoder_depth": (),
        "decoder_depth": (),
        "mid_depth": 2,
        "dropout": (0.1,),
        "temporal_strides": (),
    },
    "video": VIDEO,
    "video, frames halved once": VIDEO | {"temporal_strides": (1, 2)},
    "video, frames halved twice": VIDEO | {"temporal_strides": (2, 2), "patch_size": 1},
    "heads": TWO_TRANSFORMERS | {"head_size": None, "heads": 3},
    "rope": TWO_TRANSFORMERS | {"position": "rope"},
    "rope, a head's pairs do not divide": TWO_TRANSFORMERS | {"position": "rope", "head_size": 6},
    "rope, wide heads": TWO_TRANSFORMERS | {"position": "rope", "head_size": None, "heads": 1},
    "rope, video": VIDEO | {"position": "rope", "temporal_strides": (1, 2), "head_size": 4},
    "film attention": TWO_TRANSFORMERS | {"film": "attention"},
    "film mlp": TWO_TRANSFORMERS | {"film": "mlp"},
    "mlp first": TWO_TRANSFORMERS | {"order": "mlp_first"},
    "parallel": TWO_TRANSFORMERS | {"order": "parallel"},
    "parallel, film mlp": TWO_TRANSFORMERS | {"order": "parallel", "film": "mlp"},
    "text": TWO_TRANSFORMERS | {"text_channels": 7},
    "everything": VIDEO
    | {
        "temporal_strides": (2, 1),
        "head_size": None,
        "heads": 2,
        "position": "rope",
        "film": "mlp",
        "order": "parallel",
        "text_channels": 5,
    },
}

TOKENS = 5


def text_inputs(config, batch=3, seed=1):
    """Tokens and their mask, or neither; the last caption is empty."""
    if config.text_channels is None:
        return {}
    draws = np.random.default_rng(seed)
    text = draws.normal(size=(batch, TOKENS, config.text_channels)).astype(np.float32)
    present = np.arange(TOKENS) < np.linspace(TOKENS, 0, batch).astype(int)[:, None]
    return {"text": text, "text_mask": present}


def as_torch(array):
    return torch.from_numpy(np.array(array))


def twin_of(config, weights):
    twin = ResidualUViT(config).eval()
    twin.load_flat(weights)
    return twin


def run(twin, z, logsnr, labels, **text):
    with torch.no_grad():
        out = twin(*map(as_torch, (z, logsnr, labels)), **{k: as_torch(v) for k, v in text.items()})
    return out.numpy()


def close(found, expected, tolerance=1e-5):
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


# ---------------------------------------------------------------------------- parity


@pytest.mark.parametrize("changes", CONFIGS.values(), ids=CONFIGS)
def test_parity_through_a_weights_file(tmp_path, changes):
    config = configs.tiny(**changes)
    model = Network(config)
    params = configs.weights(model, seed=3)
    network.save(tmp_path, model, params, {})
    inputs = configs.inputs(config, seed=4)
    text = text_inputs(config)
    with jax.default_matmul_precision("highest"):
        tokens = Text(*map(jax.numpy.asarray, text.values())) if text else None
        expected = jax.jit(model.apply)(params, *inputs, text=tokens)
    twin = twin_of(config, load_file(tmp_path / network.WEIGHTS))
    close(run(twin, *inputs, **text), np.asarray(expected))


@pytest.mark.parametrize("fault", ["missing", "left over", "shape"])
def test_weights_must_fit(fault):
    weights = dict(configs.weights(Network(configs.tiny())))
    if fault == "missing":
        del weights["middle/position"]
    elif fault == "left over":
        weights["middle/blocks/1/qkv/bias"] = weights["middle/blocks/0/qkv/bias"]
    else:
        weights["norm_out/scale"] = weights["norm_out/scale"][:1]
    error, name = {
        "missing": (KeyError, "middle/position"),
        "left over": (KeyError, "middle/blocks/1/qkv/bias"),
        "shape": (ValueError, "norm_out/scale"),
    }[fault]
    with pytest.raises(error, match=name):
        twin_of(configs.tiny(), weights)


# ---------------------------------------------------------------------------- names


def shapes(config):
    """Flat names and shapes of the weights, from the description of the file format."""
    found = {}
    video, last = len(config.image_shape) == 4, len(config.channels) - 1
    emb, colours, size = config.emb_channels, config.image_shape[-1], config.patch_size
    grid = [*config.image_shape[:-3], *(n // size for n in config.image_shape[-3:-1])]

    def linear(name, n, m, bias=True):
        found[f"{name}/kernel"] = (n, m)
        if bias:
            found[f"{name}/bias"] = (m,)

    def conv(name, kernel, n, m):
        found[f"{name}/kernel"] = (*kernel, n, m)
        found[f"{name}/bias"] = (m,)

    def norm(name, n):
        found[f"{name}/scale"] = found[f"{name}/bias"] = (n,)

    def level(name, index, depth):
        c = config.channels[index]
        head_size = config.head_size or c // config.heads
        transformer = config.blocks[index] == "transformer"
        if transformer and depth and config.position == "learned":
            found[f"{name}/position"] = (*grid, c)
        for block in (f"{name}/blocks/{i}" for i in range(depth)):
            if transformer:
                for branch in ("attention", "mlp"):
                    if config.film in ("both", branch):
                        linear(f"{block}/film_{branch}/linear", emb, 2 * c)
                linear(f"{block}/qkv", c, 3 * c)
                found[f"{block}/norm_q/scale"] = found[f"{block}/norm_k/scale"] = (head_size,)
                if config.text_channels is not None:
                    linear(f"{block}/text", config.text_channels, 2 * c)
                linear(f"{block}/attention_out", c, c)
                linear(f"{block}/mlp_in", c, 4 * c)
                linear(f"{block}/mlp_out", 4 * c, c)
            else:
                for half in ("in", "out"):
                    norm(f"{block}/norm_{half}", c)
                    conv(f"{block}/conv_{half}", (3,) * len(grid), c, c)
                linear(f"{block}/film/linear", emb, 2 * c)

    linear("conditioning/linear_in", emb, emb)
    linear("conditioning/linear_out", emb, emb)
    found["conditioning/classes/embedding"] = (config.num_classes + 1, emb)
    patch = (1,) * video + (size, size)
    conv("patch_in", patch, colours, config.channels[0])
    norm("norm_out", config.channels[0])
    conv("patch_out", patch, config.channels[0], colours)
    for i in range(last):
        fine, coarse = config.channels[i : i + 2]
        level(f"encoder/{i}", i, config.encoder_depth[i])
        level(f"decoder/{i}", i, config.decoder_depth[i])
        linear(f"down/{i}/project", fine, coarse)
        linear(f"up/{i}/project", coarse, fine, bias=False)
        strides = (config.temporal_strides[i],) * video + (2, 2)
        grid = [n // s for n, s in zip(grid, strides, strict=True)]
    level("middle", last, config.mid_depth)
    return found


def random_weights(config, seed=5):
    draws = np.random.default_rng(seed)
    return {
        name: (draws.normal(0.0, 0.3, shape) + name.endswith("/scale")).astype(np.float32)
        for name, shape in sorted(shapes(config).items())
    }


@pytest.mark.parametrize("changes", CONFIGS.values(), ids=CONFIGS)
def test_names_are_those_of_our_network(changes):
    config = configs.tiny(**changes)
    assert shapes(config) == {name: shape.shape for name, shape in Network(config).shapes().items()}


@pytest.mark.parametrize("changes", CONFIGS.values(), ids=CONFIGS)
def test_twin_runs_with_every_option(changes):
    config = configs.tiny(**changes)
    twin = twin_of(config, random_weights(config))
    inputs, text = configs.inputs(config), text_inputs(config)
    out = run(twin, *inputs, **text)
    assert out.shape == (3, *config.image_shape)
    assert np.isfinite(out).all()
    # An image's output is its own affair.
    alone = run(twin, *(x[2:] for x in inputs), **{k: v[2:] for k, v in text.items()})
    close(alone, out[2:])
    twin.train()
    twin(
        *map(as_torch, inputs), **{k: as_torch(v) for k, v in text.items()}
    ).square().mean().backward()
    depths = (*config.encoder_depth, *config.decoder_depth, config.mid_depth)
    if all(depths):
        assert all(p.grad is not None and p.grad.any() for p in twin.parameters())


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("channels", [4, 36, 64])
def test_group_norm_is_torchs(axes, channels):
    norm = GroupNorm(channels).double()
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = torch.randn(2, *(4,) * axes, channels, dtype=torch.float64).movedim(-1, 1) + 20
    groups = {4: 4, 36: 4, 64: 32}[channels]
    expected = torch.nn.functional.group_norm(
        x.contiguous(), groups, norm.weight, norm.bias, eps=1e-6
    )
    close(norm(x).detach().numpy(), expected.detach().numpy(), 1e-12)
    close(norm.float()(x.float()).detach().numpy(), expected.detach().numpy(), 1e-5)


# ---------------------------------------------------------------------------- RoPE


def turned(vector, place, grid):
    """One head's vector at one place, pair by pair, as complex numbers."""
    pairs, out = len(vector) // 2, np.array(vector)
    for axis, index in enumerate(place):
        first, end = axis * pairs // len(grid), (axis + 1) * pairs // len(grid)
        for pair in range(first, end):
            angle = index * 10000.0 ** (-(pair - first) / (end - first))
            value = complex(vector[pair], vector[pair + pairs]) * np.exp(1j * angle)
            out[pair], out[pair + pairs] = value.real, value.imag
    return out


def rotated(x, grid):
    """By the twin; ``x`` is ``[positions, head_size]``."""
    angles = rotary_angles(grid, x.shape[1]).unsqueeze(1)
    return rotate(as_torch(x)[None, :, None], angles.cos(), angles.sin())[0, :, 0].numpy()


@pytest.mark.parametrize(
    ("grid", "head_size"), [((3, 5), 8), ((3, 5), 6), ((3, 2), 2), ((2, 3, 4), 16), ((2, 3, 2), 6)]
)
def test_rope_position_by_position(grid, head_size):
    x = np.random.default_rng(0).normal(size=(math.prod(grid), head_size))
    expected = [turned(v, place, grid) for v, place in zip(x, np.ndindex(*grid), strict=True)]
    np.testing.assert_allclose(rotated(x, grid), expected, rtol=0, atol=1e-12)


def test_rope_scores_depend_on_differences_of_positions():
    grid, draws = (2, 4, 5), np.random.default_rng(0)
    q, k = draws.normal(size=(2, 12))
    places = np.array(list(np.ndindex(*grid)))
    scores = rotated(np.tile(q, (40, 1)), grid) @ rotated(np.tile(k, (40, 1)), grid).T
    of_difference = {}
    for i, j in np.ndindex(40, 40):
        of_difference.setdefault(tuple(places[i] - places[j]), []).append(scores[i, j])
    assert len(of_difference) == 3 * 7 * 9
    assert max(np.ptp(values) for values in of_difference.values()) < 1e-12
    firsts = [values[0] for values in of_difference.values()]
    assert len(np.unique(np.round(firsts, 9))) == len(firsts)


def test_rope_frequencies_by_finite_differences():
    """d/dp of a rotated pair at p = 0 is frequency · (−second, first)."""
    angles = rotary_angles((4, 4), 12)
    step = np.array([angles[4, pair] if pair < 3 else angles[1, pair] for pair in range(6)])
    x, small = np.random.default_rng(0).normal(size=12), 1e-6
    scaled = torch.from_numpy(small * step)
    y = rotate(as_torch(x)[None, None, None], scaled.cos(), scaled.sin())[0, 0, 0].numpy()
    frequencies = 10000.0 ** -(np.arange(3) / 3)
    derivative = np.concatenate([-x[6:], x[:6]]) * np.tile(frequencies, 4)
    np.testing.assert_allclose((y - x) / small, derivative, atol=1e-5)
    assert not angles[0].any()
    assert not angles[4, 3:].any()
    assert not angles[1, :3].any()


# ---------------------------------------------------------------------------- blocks


def rms(x, scale):
    return x / np.sqrt(np.mean(x**2) + 1e-6) * scale


def attend(x, grid, w, head_size, rope, text, present):
    """Query by query and key by key; absent tokens are never looked at."""
    heads = x.shape[1] // head_size

    def cut(row, part, head):
        return row.reshape(-1, heads, head_size)[part, head]

    def place(vector, position):
        return turned(vector, position, grid) if rope else vector

    qkv, places = oracle.linear(x, oracle.scoped(w, "qkv")), list(np.ndindex(*grid))
    kv = [
        oracle.linear(token, oracle.scoped(w, "text"))
        for token, there in zip(text, present, strict=True)
        if there
    ]
    norm_q, norm_k = w["norm_q/scale"], w["norm_k/scale"]
    out = np.zeros((len(x), heads, head_size))
    for head in range(heads):
        keys = [place(rms(cut(r, 1, head), norm_k), p) for r, p in zip(qkv, places, strict=True)]
        keys += [rms(cut(r, 0, head), norm_k) for r in kv]
        values = [cut(r, 2, head) for r in qkv] + [cut(r, 1, head) for r in kv]
        for i, (row, position) in enumerate(zip(qkv, places, strict=True)):
            query = place(rms(cut(row, 0, head), norm_q), position)
            share = np.array([math.exp(query @ key / math.sqrt(head_size)) for key in keys])
            out[i, head] = share / share.sum() @ np.array(values)
    return oracle.linear(out.reshape(x.shape), oracle.scoped(w, "attention_out"))


def transformer(x, emb, w, config, grid, text, present):
    head_size = config.head_size or x.shape[1] // config.heads

    def modulated(h, branch):
        h = oracle.standardised(h, (1,))
        film = oracle.scoped(w, f"film_{branch}")
        assert bool(film) == (config.film in ("both", branch))
        return oracle.film(h, emb, film) if film else h

    def attention(h):
        h = modulated(h, "attention")
        return attend(h, grid, w, head_size, config.position == "rope", text, present)

    def mlp(h):
        h = oracle.linear(modulated(h, "mlp"), oracle.scoped(w, "mlp_in"))
        return oracle.linear(oracle.gelu(h), oracle.scoped(w, "mlp_out"))

    if config.order == "parallel":
        return x + attention(x) + mlp(x)
    for branch in (attention, mlp) if config.order == "attention_first" else (mlp, attention):
        x = x + branch(x)
    return x


ENDING_IN_A_TRANSFORMER = {
    name: changes
    for name, changes in CONFIGS.items()
    if configs.tiny(**changes).blocks[-1] == "transformer" and configs.tiny(**changes).mid_depth
}


@pytest.mark.parametrize("changes", ENDING_IN_A_TRANSFORMER.values(), ids=ENDING_IN_A_TRANSFORMER)
def test_transformer_level_in_numpy(changes):
    """The last level, wherever it is one: position, order, FiLM, heads, RoPE and text."""
    config = configs.tiny(**changes)
    weights = random_weights(config)
    twin = twin_of(config, weights).double()
    draws = np.random.default_rng(6)
    grid = list(config.image_shape[:-1])
    for axis in (-2, -1):
        grid[axis] //= config.patch_size * 2 ** (len(config.channels) - 1)
    if len(grid) == 3:
        grid[0] //= math.prod(config.temporal_strides)
    x = draws.normal(size=(3, *grid, config.channels[-1]))
    emb = draws.normal(size=(3, config.emb_channels))
    given = text_inputs(config)
    text, present = given.get("text", np.zeros((3, 0, 1))), given.get("text_mask", np.zeros((3, 0)))
    extra = (
        [as_torch(given[k]).to(d) for k, d in (("text", torch.float64), ("text_mask", None))]
        if given
        else [None, None]
    )
    if config.position == "rope":
        # The tables are float32 to the model: give them their exact values for this comparison.
        head_size = config.head_size or config.channels[-1] // config.heads
        angles = rotary_angles(tuple(grid), head_size).unsqueeze(1)
        twin.middle.cos, twin.middle.sin = angles.cos(), angles.sin()
    with torch.no_grad():
        found = twin.middle(as_torch(x), torch.nn.functional.silu(as_torch(emb)), *extra).numpy()
    w = oracle.scoped({k: np.asarray(v, np.float64) for k, v in weights.items()}, "middle")
    for image in range(3):
        h = (x[image] + w.get("position", 0.0)).reshape(-1, x.shape[-1])
        for block in range(config.mid_depth):
            h = transformer(
                h,
                emb[image],
                oracle.scoped(w, f"blocks/{block}"),
                config,
                grid,
                text[image],
                present[image],
            )
        close(found[image], h.reshape(x.shape[1:]), 1e-12)


def test_masked_tokens_do_not_count():
    config = configs.tiny(**(CONFIGS["text"]))
    twin = twin_of(config, random_weights(config))
    inputs, given = configs.inputs(config), text_inputs(config)
    text, mask = given["text"], given["text_mask"]
    assert not mask[2].any()
    out = run(twin, *inputs, **given)
    noise = np.where(mask[..., None], text, 100 * np.ones_like(text))
    np.testing.assert_array_equal(run(twin, *inputs, text=noise, text_mask=mask), out)
    # Tokens that are there do count, in any order, and no mask means that all are there.
    other = run(twin, *inputs, text=text + mask[..., None], text_mask=mask)
    assert np.abs(other - out).max(axis=(1, 2, 3))[:2].min() > 1e-3
    close(run(twin, *inputs, text=text[:, ::-1], text_mask=mask[:, ::-1]), out)
    everything = run(twin, *inputs, text=text, text_mask=np.ones_like(mask))
    close(run(twin, *inputs, text=text), everything)
    # With no token at all it is the network without text.
    without = configs.tiny(**(CONFIGS["text"] | {"text_channels": None}))
    weights = {k: v for k, v in random_weights(config).items() if "/text/" not in k}
    close(out[2:], run(twin_of(without, weights), *inputs)[2:])


@pytest.mark.parametrize("text_channels", [None, 7])
def test_text_is_given_if_and_only_if_the_network_takes_it(text_channels):
    config = configs.tiny(**(TWO_TRANSFORMERS | {"text_channels": text_channels}))
    text = {} if text_channels else {"text": np.zeros((3, 2, 7), np.float32)}
    with pytest.raises(ValueError, match="text"):
        run(ResidualUViT(config), *configs.inputs(config), **text)


def convolved(x, kernel, bias):
    """3×3×3, SAME: ``x`` [f, h, w, c], tap by tap."""
    padded = np.pad(x, [(1, 1)] * 3 + [(0, 0)])
    taps = (
        padded[tuple(slice(i, i + n) for i, n in zip(tap, x.shape[:3], strict=True))] @ kernel[tap]
        for tap in np.ndindex(3, 3, 3)
    )
    return sum(taps) + bias


def test_video_res_block_in_numpy():
    draws, c = np.random.default_rng(0), 36
    block = ResBlock(c, 8, 0.5, axes=3).double().eval()
    x, emb = draws.normal(size=(2, 3, 4, 5, c)), draws.normal(size=(2, 8))
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        found = block(as_torch(x).movedim(-1, 1), torch.nn.functional.silu(as_torch(emb)))
    p = {name: value.detach().numpy() for name, value in block.named_parameters()}

    def swish_of_norm(h, half, film=None):
        parts = h.reshape(-1, 4, c // 4)
        h = oracle.standardised(parts, (0, 2)).reshape(h.shape)
        h = h * p[f"norm_{half}.weight"] + p[f"norm_{half}.bias"]
        return oracle.swish(h if film is None else h * (1 + film[:c]) + film[c:])

    def conv(h, half):
        kernel = p[f"conv_{half}.weight"].transpose(2, 3, 4, 1, 0)
        loaded = from_flax(block.conv_in, "kernel", torch.from_numpy(kernel))
        np.testing.assert_array_equal(loaded, p[f"conv_{half}.weight"])
        return convolved(h, kernel, p[f"conv_{half}.bias"])

    for image in range(2):
        film = p["film.linear.weight"] @ oracle.swish(emb[image]) + p["film.linear.bias"]
        h = conv(swish_of_norm(x[image], "in"), "in")
        expected = x[image] + conv(swish_of_norm(h, "out", film), "out")
        close(found[image].movedim(0, -1).numpy(), expected, 1e-12)


@pytest.mark.parametrize("frames", [1, 2])
def test_down_and_up_of_videos(frames):
    draws = np.random.default_rng(0)
    x, fine = draws.normal(size=(2, 4, 6, 8, 3)), draws.normal(size=(2, 4, 6, 8, 3))
    down, up = Down(3, 5, frames).double(), Up(5, 3, (frames, 2, 2)).double()
    with torch.no_grad():
        coarse = down(as_torch(x)).numpy()
        again = up(as_torch(coarse), as_torch(fine)).numpy()
    mean = np.zeros((2, 4 // frames, 3, 4, 3))
    for b, t, i, j in np.ndindex(mean.shape[:4]):
        cell = x[b, t * frames : (t + 1) * frames, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        mean[b, t, i, j] = cell.mean((0, 1, 2))
    projection = {k: v.detach().numpy() for k, v in down.project.named_parameters()}
    close(coarse, mean @ projection["weight"].T + projection["bias"], 1e-12)
    for b, t, i, j in np.ndindex(again.shape[:4]):
        parent = coarse[b, t // frames, i // 2, j // 2]
        expected = up.project.weight.detach().numpy() @ parent + fine[b, t, i, j]
        np.testing.assert_allclose(again[b, t, i, j], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_patches_are_convolutions_and_transposed_convolutions(size):
    patch_in, patch_out = PatchIn(size, 3, 6).double(), PatchOut(size, 6, 3).double()
    torch.nn.init.normal_(patch_out.bias)
    z = torch.randn(2, 8, 4, 3, dtype=torch.float64)
    with torch.no_grad():
        h = patch_in(z)
        kernel = patch_in.weight.reshape(6, size, size, 3).movedim(-1, 1)
        expected = torch.nn.functional.conv2d(z.movedim(-1, 1), kernel, patch_in.bias, stride=size)
        close(h.numpy(), expected.movedim(1, -1).numpy(), 1e-12)
        kernel = patch_out.weight.reshape(size, size, 3, 6).permute(3, 2, 0, 1)
        expected = torch.nn.functional.conv_transpose2d(
            h.movedim(-1, 1), kernel, patch_out.bias, stride=size
        )
        close(patch_out(h).numpy(), expected.movedim(1, -1).numpy(), 1e-12)
    video = torch.stack([z, z.flip(1)], dim=1)
    close(patch_in(video).detach().numpy()[:, 0], h.numpy(), 1e-12)


# ---------------------------------------------------------------------------- speed and modes


def test_dropout_only_in_training():
    config = configs.tiny(**(TWO_TRANSFORMERS | {"dropout": (0.5, 0.5, 0.5)}))
    twin = twin_of(config, random_weights(config))
    inputs = configs.inputs(config)
    np.testing.assert_array_equal(run(twin, *inputs), run(twin, *inputs))
    twin.train()
    assert np.abs(run(twin, *inputs) - run(twin, *inputs)).max() > 1e-3


def test_bfloat16_is_the_network_approximately():
    config = configs.tiny(**(CONFIGS["everything"]))
    weights = random_weights(config)
    inputs, text = configs.inputs(config), text_inputs(config)
    exact = run(twin_of(config, weights), *inputs, **text)
    half = replace(config, compute_dtype="bfloat16")
    out = run(twin_of(half, weights), *inputs, **text)
    assert out.dtype == np.float32
    assert 0 < np.abs(out - exact).max()
    assert np.square(out - exact).mean() < 0.05 * np.square(exact).mean()


def test_activations_are_channels_last():
    for axes, layout in ((2, torch.channels_last), (3, torch.channels_last_3d)):
        block = ResBlock(8, 4, 0.0, axes)
        x = torch.randn(2, *(4,) * axes, 8).movedim(-1, 1)
        assert x.is_contiguous(memory_format=layout)
        assert block.conv_in.weight.is_contiguous(memory_format=layout)
        assert block(x, torch.randn(2, 4)).is_contiguous(memory_format=layout)


def test_transformer_block_counts_its_heads():
    block = TransformerBlock(configs.tiny(**({"head_size": None, "heads": 3})), 12, 0.0)
    assert (block.heads, block.head_size) == (3, 4)
