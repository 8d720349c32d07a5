"""What has to be installed for Tunix, in the versions that were run; imports none of it."""

from importlib import metadata

from packaging.requirements import Requirement

from latent_gemma.errors import ConfigError
from latent_gemma.versions import extra_requirements

#: Not in the extra: it asks for an older safetensors than transformers does, and runs with either.
TUNIX = Requirement("google-tunix==0.1.7")
INSTALL = f'pip install "latent-gemma[tunix]" && pip install --no-deps {TUNIX}'


def check_installed() -> dict[str, str]:
    """Look for Tunix and what it needs.

    Returns:
        Their versions.

    Raises:
        ConfigError: naming the first that is missing or of another version, with the command that installs all.
    """
    found = {}
    for needed in (TUNIX, *extra_requirements("tunix")):
        try:
            found[needed.name] = metadata.version(needed.name)
        except metadata.PackageNotFoundError as error:
            raise ConfigError(f"--engine tunix needs {needed.name}, which is not installed", INSTALL) from error
        if not needed.specifier.contains(found[needed.name], prereleases=True):
            raise ConfigError(
                f"--engine tunix has been run with {needed}, and {found[needed.name]} is installed", INSTALL
            )
    return found
