"""Public data sets with the splits that published figures use, and generators of series with known ground
truth.

``fetch_*`` look for a file under the folder that ``data_home`` or the environment variable ``TSSSM_DATA``
names, laid out as ``datasets/README.md`` says. Where it is not there it is downloaded from its publisher into
``data_home`` or the user's cache, and its SHA-256 is checked where it is known. ``make_*`` need no file. Both
return a Bunch, as in scikit-learn, or ``(data, target)`` with ``return_X_y=True``. The cards in
``datasets/cards``, which are also the ``DESCR`` of what is returned, describe the sets, their sources,
licences and traps.
"""

from tsssm.datasets._archives import fetch_tser, fetch_ucr, fetch_uea
from tsssm.datasets._audio import fetch_fsdd, fetch_speech_commands
from tsssm.datasets._bidmc import fetch_bidmc
from tsssm.datasets._ett import fetch_ett
from tsssm.datasets._hapt import fetch_hapt
from tsssm.datasets._icu import make_icu
from tsssm.datasets._images import fetch_cifar10, fetch_mnist
from tsssm.datasets._listops import make_listops
from tsssm.datasets._lra import fetch_lra
from tsssm.datasets._ludb import fetch_ludb
from tsssm.datasets._memory import make_copy, make_delay
from tsssm.datasets._mitbih import fetch_mitbih
from tsssm.datasets._oscillators import make_irregular
from tsssm.datasets._pathfinder import make_pathfinder
from tsssm.datasets._physionet import fetch_physionet2012
from tsssm.datasets._physionet2019 import fetch_physionet2019
from tsssm.datasets._vitals import make_vitals

__all__ = [
    "fetch_bidmc",
    "fetch_cifar10",
    "fetch_ett",
    "fetch_fsdd",
    "fetch_hapt",
    "fetch_lra",
    "fetch_ludb",
    "fetch_mitbih",
    "fetch_mnist",
    "fetch_physionet2012",
    "fetch_physionet2019",
    "fetch_speech_commands",
    "fetch_tser",
    "fetch_ucr",
    "fetch_uea",
    "make_copy",
    "make_delay",
    "make_icu",
    "make_irregular",
    "make_listops",
    "make_pathfinder",
    "make_vitals",
]
