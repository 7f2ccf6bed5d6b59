"""Imported by every Python of an instance (site, PYTHONPATH), so that two clones of one template never draw the same values.

What the kernel and OpenSSL draw is fresh or renewed by clone-guard.c. Here it is the generators of the module `random` that were not
seeded by the program: they seed themselves anew after each restore. One that a program has seeded goes on as it asked.
"""
import mmap as _mmap
import os as _os
import sys as _sys


def _map_generation():
    try:
        file = _os.open("/run/edgepoint/generation", _os.O_RDONLY | _os.O_CLOEXEC)
    except OSError:
        return None  # not in an instance
    try:
        return _mmap.mmap(file, 8, _mmap.MAP_SHARED, _mmap.PROT_READ)
    finally:
        _os.close(file)


def _guard(random, generation):
    plain = random.Random

    class Random(plain):
        """As before, but seeded anew in each generation unless the program has seeded it."""

        def __init__(self, x=None):
            self._generation = None
            super().__init__(x)

        def seed(self, a=None, version=2):
            super().seed(a, version)
            self._generation = generation[:] if a is None else None

        def setstate(self, state):
            super().setstate(state)
            self._generation = None

        def _renew(self):
            if self._generation is not None and self._generation != generation[:]:
                self.seed()

        def random(self):
            self._renew()
            return super().random()

        def getrandbits(self, k):
            self._renew()
            return super().getrandbits(k)

    Random.__module__, Random.__qualname__ = plain.__module__, plain.__qualname__
    random.Random = Random
    hidden = random._inst = Random()
    for name in random.__all__:
        if name not in ("Random", "SystemRandom"):
            setattr(random, name, getattr(hidden, name))


class _Finder:
    """Guards the module `random` when it is first imported, which most programs never do."""

    def __init__(self, generation):
        self._generation = generation

    def find_spec(self, name, path=None, target=None):
        if name != "random" or path is not None:
            return None
        _sys.meta_path.remove(self)
        import importlib.util as util

        spec = util.find_spec(name)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module
            spec.loader.exec_module = lambda module: (load(module), _guard(module, self._generation))[0]
        return spec


def _chain():
    """The sitecustomize that this one stands before, if there is one (site's documentation)."""
    import importlib.machinery as machinery

    here = _os.path.dirname(_os.path.abspath(__file__))
    rest = [path for path in _sys.path if _os.path.abspath(path or ".") != here]
    found = machinery.PathFinder.find_spec("sitecustomize", rest)
    if found and found.loader:
        import importlib.util as util

        found.loader.exec_module(util.module_from_spec(found))


_generation = _map_generation()
if _generation is not None:
    if "random" in _sys.modules:
        _guard(_sys.modules["random"], _generation)
    else:
        _sys.meta_path.insert(0, _Finder(_generation))
_chain()
