"""Model files: numbers as safetensors, everything else as JSON in the header of the same file, and no pickle.

Reading a file builds nothing but plain values, arrays, tensors and objects of registered classes, each of
which checks its fields (`Fields`), so that a file from a stranger can at worst be refused or predict
nonsense, and takes no more memory than a multiple of its size. What is written::

    8 bytes            length of the header
    header             JSON of safetensors: name, dtype, shape and place of every array, and ``__metadata__``
                       with format, format_version, versions, state (a JSON tree) and digest
    arrays             one after another

The tree holds null, booleans, strings, integers, finite floats and lists as JSON does, and everything else as
an object with one key, the row of ``_trees._READERS`` that reads it. An object of a class is ``{"object":
[name, version, {field: value, ...}]}``, with fields that the class declares where it is registered, and the
version of that declaration. The digest (SHA-256 of tree and arrays) tells damage from intent as little as any
checksum without a key: it is no signature.
"""

from tsssm.persistence._fields import Fields, ModelFileError
from tsssm.persistence._files import FORMAT_VERSION, SUFFIX, can_hold, read, write, write_atomically
from tsssm.persistence._kinds import Kind, Read, UnsavableError, kinds, named, public, register

__all__ = [
    "FORMAT_VERSION",
    "SUFFIX",
    "Fields",
    "Kind",
    "ModelFileError",
    "Read",
    "UnsavableError",
    "can_hold",
    "kinds",
    "named",
    "public",
    "read",
    "register",
    "write",
    "write_atomically",
]
