"""Weights written by earlier versions of the project stay loadable and keep their meaning.

``fixtures/format1`` holds what commit c6a12ed wrote: a base model, its student, a model of clips,
and what each of them answered to fixed inputs. These files are never written again. When an
interface changes, adapt the calls below, not the files.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sid2core.conditioning import Condition
from sid2core.inference.model import Trained

FIXTURES = Path(__file__).parent / "fixtures"
TIMES = np.linspace(0.0, 1.0, 5, dtype=np.float32)


def expected(name):
    with np.load(FIXTURES / "format1" / "expected.npz", allow_pickle=False) as file:
        return {
            key.removeprefix(f"{name}/"): jnp.asarray(file[key])
            for key in file.files
            if key.startswith(name)
        }


@pytest.mark.parametrize("name", ["base", "student_2", "clip"])
def test_weights_of_format_1_give_the_same_outputs(name):
    model = Trained.load(FIXTURES / "format1" / name)
    before = expected(name)
    condition = Condition(label=before["labels"])
    apply = jax.jit(model.denoiser.network.apply)
    output = apply(model.params, before["z"], before["logsnr"], condition)
    np.testing.assert_allclose(output, before["output"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.schedule.logsnr(TIMES), before["schedule"], rtol=1e-5)
    assert model.config.get("student_steps") == (2 if name == "student_2" else None)
