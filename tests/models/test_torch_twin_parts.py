"""The twin by itself: its parts against NumPy and PyTorch's own layers."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")


from sid2core.exporting import names  # noqa: E402
from sid2core.exporting.files.model import (  # noqa: E402
    Down,
    GroupNorm,
    PatchIn,
    PatchOut,
    ResBlock,
    ResidualUViT,
    TransformerBlock,
    Up,
    rotary_angles,
    rotate,
)
from tests.models import configs, oracle  # noqa: E402
from tests.models.twin_cases import (  # noqa: E402
    CONFIGS,
    TEXT,
    TWO_TRANSFORMERS,
    as_torch,
    close,
    random_weights,
    run,
    text_inputs,
    twin_of,
)


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
    config = configs.tiny(**(CONFIGS["text, no positions"]))
    twin = twin_of(config, random_weights(config))
    inputs, given = configs.inputs(config), text_inputs(config)
    text, mask = given["text"], given["text_mask"]
    assert mask.sum(1).tolist() == [5, 3, 1]
    out = run(twin, *inputs, **given)
    noise = np.where(mask[..., None], text, 100 * np.ones_like(text))
    np.testing.assert_array_equal(run(twin, *inputs, text=noise, text_mask=mask), out)
    # Tokens that are there do count, in any order, and no mask means that all are there.
    other = run(twin, *inputs, text=text + mask[..., None], text_mask=mask)
    assert np.abs(other - out).max(axis=(1, 2, 3))[:2].min() > 1e-3
    close(run(twin, *inputs, text=text[:, ::-1], text_mask=mask[:, ::-1]), out)
    everything = run(twin, *inputs, text=text, text_mask=np.ones_like(mask))
    close(run(twin, *inputs, text=text), everything)


@pytest.mark.parametrize("changes", [{}, TEXT])
def test_text_is_given_if_and_only_if_the_network_takes_it(changes):
    config = configs.tiny(**(TWO_TRANSFORMERS | changes))
    text = {} if changes else {"text": np.zeros((3, 2, 7), np.float32)}
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
        _, loaded = names.to_torch("conv_in/kernel", kernel)
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
