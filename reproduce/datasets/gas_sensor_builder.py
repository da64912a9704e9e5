"""The gas sensor array as a data set of TFDS.

Importing this module imports TFDS, hence TensorFlow, and registers the data set, so that
`tfds.load("gas_sensor")` finds it; `datasets.gas_sensor` imports it only when data is to be had.
"""

import numpy as np

from datasets.gas_archive import ARCHIVE_NAMES, FEATURES, GASES, URL, find_archive, read_archive
from datasets.sources import import_tfds

tfds = import_tfds()

DESCRIPTION = """
Measurements of 16 chemical sensors, eight features of each, exposed to one of six gases at a known
concentration, taken over 36 months in ten batches. Arora, Cohen and Hazan (2018) regress the
concentration of Ethanol on the features. Examples carry their position in the archive as `index`:
by batch, then by line. The donors allow research use only, and ask that both papers be cited.
"""

CITATION = """
@article{vergara2012chemical,
  title={Chemical gas sensor drift compensation using classifier ensembles},
  author={Vergara, Alexander and Vembu, Shankar and Ayhan, Tuba and Ryan, Margaret A. and
          Homer, Margie L. and Huerta, Ram{\\'o}n},
  journal={Sensors and Actuators B: Chemical},
  volume={166--167},
  pages={320--329},
  year={2012},
  doi={10.1016/j.snb.2012.01.074}
}
@article{rodriguezlujan2014calibration,
  title={On the calibration of sensor arrays for pattern recognition using the minimal number of
         experiments},
  author={Rodriguez-Lujan, Irene and Fonollosa, Jordi and Vergara, Alexander and Homer, Margie and
          Huerta, Ram{\\'o}n},
  journal={Chemometrics and Intelligent Laboratory Systems},
  volume={130},
  pages={123--134},
  year={2014},
  doi={10.1016/j.chemolab.2013.10.012}
}
"""


class GasSensor(tfds.core.GeneratorBasedBuilder):
    """Gas Sensor Array Drift at Different Concentrations, UCI data set 270.

    The archive is taken from `DownloadConfig(manual_dir=...)` where that folder holds it, else it
    is downloaded. An archive that is damaged raises `datasets.sources.DataError`.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (TFDS declares it so)
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Optional: a folder with {' or '.join(ARCHIVE_NAMES)} saves the download."
    )

    def _info(self):
        features = {
            "features": tfds.features.Tensor(shape=(FEATURES,), dtype=np.float32),
            "gas": tfds.features.ClassLabel(names=GASES),
            "concentration": tfds.features.Scalar(np.float32, doc="ppm"),
            "batch": tfds.features.Scalar(np.int64, doc="1 to 10"),
            "index": tfds.features.Scalar(np.int64, doc="position in the archive"),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=DESCRIPTION,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("features", "concentration"),
            homepage="https://archive.ics.uci.edu/dataset/270",
            citation=CITATION,
        )

    def _split_generators(self, dl_manager):
        archive = _find_manually(dl_manager)
        rows = read_archive(archive) if archive else read_archive(dl_manager.download(URL), URL)
        return {"train": self._generate_examples(rows)}

    def _generate_examples(self, rows):
        for row in rows:
            yield row["index"], row


def _find_manually(dl_manager):
    try:
        return find_archive(dl_manager.manual_dir)
    except AssertionError:  # how TFDS says that there is no such folder, or that it is empty
        return None
