"""The devices a run is laid out over."""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import jax

from latent_gemma.errors import ConfigError
from latent_gemma.ranges import Range, parse_numbers

#: Tunix's names: weights and examples are cut along the first, heads and hidden units along the second.
AXES = ("fsdp", "tp")


def device_mesh(text: str | None, batch_size: int) -> jax.sharding.Mesh:
    """Lay the devices of this machine out.

    Args:
        text: such as "2,4": along fsdp and tp; None puts all of them along fsdp as far as they divide a batch.
        batch_size: examples in a batch.

    Returns:
        The mesh.

    Raises:
        ConfigError: if it leaves a device idle or needs more than there are, or a batch cannot be cut so.
    """
    devices = jax.devices()
    shape: tuple[int, ...]
    if text is None:
        shape = next((size, len(devices) // size) for size in range(len(devices), 0, -1)
                     if len(devices) % size == 0 and batch_size % size == 0)  # fmt: skip
    else:
        shape = parse_numbers(text, int, "--mesh", Range(1, 1_000_000))
        if len(shape) != len(AXES):
            raise ConfigError(f"--mesh {text} has {len(shape)} numbers", "give two, as in --mesh 2,4 (fsdp, tp)")
    if shape[0] * shape[1] != len(devices):
        kind = "leaves devices idle" if shape[0] * shape[1] < len(devices) else "needs more devices"
        raise ConfigError(
            f"--mesh {text} {kind}: there are {len(devices)}", f"give two numbers whose product is {len(devices)}"
        )
    if batch_size % shape[0]:
        raise ConfigError(
            f"--batch-size {batch_size} does not divide by the {shape[0]} of --mesh {text}",
            f"give a multiple of {shape[0]}",
        )
    return jax.make_mesh(shape, AXES, axis_types=(jax.sharding.AxisType.Auto,) * 2)


@contextmanager
def laid_over(mesh: jax.sharding.Mesh) -> Iterator[None]:
    """Have Tunix lay out what it makes and computes over a mesh."""
    with ExitStack() as stack:
        with warnings.catch_warnings():
            # JAX wants `set_mesh` in its place, which is not where Tunix looks
            warnings.filterwarnings("ignore", "`with mesh:`", DeprecationWarning)
            stack.enter_context(mesh)
        yield
