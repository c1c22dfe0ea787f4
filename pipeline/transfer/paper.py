"""Figures that Yin et al., CVPR 2019, print for what the analyses measure; shares of 1, faces of MS-Celeb-1M."""

# Table 6, 10K30K: softmax + m-L2, and feature transfer.
NORMS = {"head": {"m-L2": 0.401, "transfer": 0.366}, "tail": {"m-L2": 0.139, "transfer": 0.270}}
CLOSED = {
    "head": {"m-L2": {"classifier": 0.9359, "nearest": 0.9060}, "transfer": {"classifier": 0.9626, "nearest": 0.9176}},
    "tail": {"m-L2": {"classifier": 0.0204, "nearest": 0.8640}, "transfer": {"classifier": 0.8189, "nearest": 0.8872}},
}
# Table 3; the paper's text says 95.48 for the first.
ONE_SHOT = {"base_rank1": 0.9921, "novel_coverage": 0.9260}
# Section 3, on MNIST.
TOY = {"softmax": 0.9906, "m-L2": 0.9935}
