"""Names shared by whoever writes a model or gallery and whoever serves it. Constants only: importing costs nothing."""

# -- SavedModel signatures
SERVING = "serving_default"  # image_bytes -> embedding, status
PIXELS = "pixels"  # decoded images of the model's own size -> embedding, status

IMAGE_BYTES = "image_bytes"  # string [N]: an encoded JPEG or PNG a row
PIXELS_INPUT = "pixels"  # uint8 [N, h, w, c]
EMBEDDING = "embedding"  # float32 [N, d], l2-normalised; zeros where status is not 0
RICH = "rich"  # float32 [N, n], of models that have them and say so: rich features g, not normalised; zeros likewise
STATUS = "status"  # int32 [N]

STATUS_OK = 0
STATUS_UNDECODABLE = 1
STATUS_TOO_LARGE = 2
STATUS_MEANING = {
    STATUS_OK: "ok",
    STATUS_UNDECODABLE: "not decodable as JPEG or PNG",
    STATUS_TOO_LARGE: "more pixels than the model accepts",
}

# -- files in a version folder of a model
WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
WEIGHTS_FILE = "assets.extra/embedder.weights.h5"  # Keras', of the embedder that the graph was frozen from
CLASSES_FILE = "assets.extra/classes.npz"  # what a later training can go on from beside them, by identity
MODEL_CARD_FILE = "assets.extra/longtail.json"
THRESHOLDS_FILE = "assets.extra/thresholds.json"  # similarities from which two images are one identity's

# -- files in a version folder of a gallery
GALLERY_INDEX = "index.faiss"  # faiss.IndexFlatIP over l2-normalised float32 rows
GALLERY_ITEMS = "items.jsonl"  # row i describes vector i: identity, path, sha256, camera
GALLERY_CARD = "gallery.json"  # model_name, model_version, of whom, dimension, count, thresholds as the model's
GALLERY_OF_FOLDER = "folder"  # `of` in the card of a gallery that a run made of a folder, not of its spans
