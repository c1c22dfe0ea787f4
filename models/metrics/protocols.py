"""Who is compared with whom: the one set of names that recipes, `longtail evaluate` and studies take."""

import dataclasses
import difflib
from collections.abc import Mapping

from longtail.models import errors


@dataclasses.dataclass(frozen=True)
class Protocol:
    """A way to score a model.

    Attributes:
      name: as recipes and commands write it.
      meaning: in words.
      divided: images are queries or gallery, as the data tells; otherwise each is a query against all others.
      cross_camera: images of the query's identity by the query's own camera are neither right nor wrong.

    Example:

    >>> protocols.PROTOCOLS["reid"].divided, protocols.PROTOCOLS["retrieval"].divided
    (True, False)
    """

    name: str
    meaning: str
    divided: bool
    cross_camera: bool = False


RETRIEVAL = Protocol("retrieval", "every image is a query against all others", divided=False)
QUERY_GALLERY = Protocol("query_gallery", "queries against a gallery", divided=True)
REID = Protocol(
    "reid",
    "queries against a gallery, without images of the query's identity by the query's own camera",
    divided=True,
    cross_camera=True,
)

VERIFICATION = Protocol("verification", "are two images of one identity: all pairs, or those of --pairs", divided=False)
IDENTIFICATION = Protocol(
    "identification", "who is it, or nobody in the gallery: with strangers among the queries", divided=True
)

# Those that rank, by which a run and a study judge a model, and all that a model can be scored by.
PROTOCOLS: dict[str, Protocol] = {each.name: each for each in (RETRIEVAL, QUERY_GALLERY, REID)}
ALL: dict[str, Protocol] = PROTOCOLS | {each.name: each for each in (VERIFICATION, IDENTIFICATION)}

_FORMER = {"leave_one_out": RETRIEVAL.name}


def find(name: str, where: str, among: Mapping[str, Protocol] = PROTOCOLS) -> Protocol:
    """The protocol of a name.

    Args:
      name: a key of `among`.
      where: the recipe's key or the command's option that holds it, for the message.
      among: `PROTOCOLS`, or `ALL`.

    Raises:
      errors.UsageError: no such protocol; the nearest one is named.

    Example:
      >>> find("reid", "--protocol").cross_camera
      True
    """
    if name in among:
        return among[name]
    near = [_FORMER[name]] if name in _FORMER else difflib.get_close_matches(str(name), among, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"one of {', '.join(among)}"
    raise errors.UsageError(f"{where}: unknown {name!r}; {hint}")
