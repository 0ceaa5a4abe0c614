"""A review bot for kernel patch series that touch the VMA code."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version('vma-review-bot')
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = '0+unknown'
