"""TFX's Trainer, which hands the census on to `run_fn`."""

import os

from tfx.components.trainer import executor as stock
from tfx.types import artifact_utils

from components.rebalancer import census

CENSUS_KEY = "census"


class Executor(stock.GenericExecutor):
    """Adds `census_path` to what `run_fn` is given."""

    def _GetFnArgs(self, input_dict, output_dict, exec_properties):
        fn_args = super()._GetFnArgs(input_dict, output_dict, exec_properties)
        uri = artifact_utils.get_single_uri(input_dict[CENSUS_KEY])
        fn_args.census_path = os.path.join(uri, census.FILE_NAME)
        return fn_args
