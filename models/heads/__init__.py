"""Classification heads: embedding and label in, logits out. Recipes name them by the keys of `HEADS`."""

from longtail.models.heads import adaptive
from longtail.models.heads import base
from longtail.models.heads import fixed

Head = base.Head
Target = base.Target
Start = base.Start
COSINE_LIMIT = base.COSINE_LIMIT
shifted_cosine = base.shifted_cosine

Softmax = fixed.Softmax
L2Softmax = fixed.L2Softmax
NormFace = fixed.NormFace
SphereFace = fixed.SphereFace
CosFace = fixed.CosFace
ArcFace = fixed.ArcFace
SubCentreArcFace = fixed.SubCentreArcFace
LDAM = fixed.LDAM
Triplet = fixed.Triplet
CurricularFace = adaptive.CurricularFace
AdaFace = adaptive.AdaFace
MagFace = adaptive.MagFace

HEADS: dict[str, type[Head]] = {
    "softmax": Softmax,
    "l2_softmax": L2Softmax,
    "normface": NormFace,
    "sphereface": SphereFace,
    "cosface": CosFace,
    "arcface": ArcFace,
    "subcentre_arcface": SubCentreArcFace,
    "curricularface": CurricularFace,
    "adaface": AdaFace,
    "magface": MagFace,
    "ldam": LDAM,
    "triplet": Triplet,
}
