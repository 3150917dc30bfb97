"""UEA archive: SSMClassifier with its defaults beside MiniRocket on several channels, published splits.

As ``ucr.py``, which says how, on sets of 3 to 24 channels; two of them come with sktime. JapaneseVowels has
series of 7 to 29 samples and CharacterTrajectories of 60 to 180: SSMClassifier takes them as they are, for
MiniRocket zeros are put behind the ends.
Run as

    TSSSM_DATA=FOLDER OMP_NUM_THREADS=1 python examples/experiments/uea.py --json uea.json
"""

from __future__ import annotations

import numpy as np
from sktime.datasets import load_basic_motions, load_japanese_vowels
from ucr import Part, run

from tsssm import Panel
from tsssm.datasets import fetch_uea

SETS = (
    "RacketSports Epilepsy ERing NATOPS JapaneseVowels BasicMotions ArticularyWordRecognition "
    "CharacterTrajectories UWaveGestureLibrary"
).split()
_BUNDLED = {"JapaneseVowels": load_japanese_vowels, "BasicMotions": load_basic_motions}


def load(name: str, part: str) -> Part:
    """Series (channels, length_i) and labels of one part of a set."""
    if name in _BUNDLED:
        frames, y = _BUNDLED[name](split=part, return_type="df-list")
        return [frame.to_numpy(dtype=np.float32).T for frame in frames], np.asarray(y)
    X, y = fetch_uea(name, part=part, return_X_y=True)
    series = [one.values.T for one in X] if isinstance(X, Panel) else X  # a panel where lengths differ
    return [np.asarray(x, dtype=np.float32) for x in series], np.asarray(y)


def main(arguments: list[str] | None = None) -> None:
    run("UEA", SETS, load, __doc__, arguments)


if __name__ == "__main__":
    main()
