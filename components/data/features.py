"""Keys of the tf.Example that passes between components, in one place."""

ENCODED = "image/encoded"  # bytes: JPEG or PNG as found; other formats re-encoded losslessly as PNG
FORMAT = "image/format"  # bytes: b"jpeg" or b"png", of `image/encoded`
HEIGHT = "image/height"  # int64, pixels
WIDTH = "image/width"  # int64, pixels
PATH = "image/path"  # bytes: path below the data's root
SHA256 = "image/sha256"  # bytes: hex digest of the file as found
IDENTITY = "identity"  # bytes: the identity's own name
CAMERA = "camera"  # int64, -1 where unknown
SPLIT = "split"  # bytes: b"train", b"query" or b"gallery"

# Scalars whose distribution betrays a change of the images. float32, intensities in [0, 1].
BRIGHTNESS = "image/brightness"  # mean intensity
CONTRAST = "image/contrast"  # standard deviation of the intensity
SHARPNESS = "image/sharpness"  # mean absolute Laplacian of the intensity
INK = "image/ink"  # share of pixels darker than half
ASPECT = "image/aspect"  # width / height
KILOBYTES = "image/kilobytes"  # size of the encoded file, 1024 bytes

SCALARS = (BRIGHTNESS, CONTRAST, SHARPNESS, INK, ASPECT, KILOBYTES)
STATISTICS = (*SCALARS, HEIGHT, WIDTH, FORMAT, CAMERA, IDENTITY)
NUMBERS = (*SCALARS, HEIGHT, WIDTH, CAMERA)

# What the drift gate compares of embeddings: see `longtail.components.embedding_drift`.
EMBEDDING_ANGLE = "embedding/angle_to_nearest_centre"
EMBEDDING_OWN = "embedding/angle_to_own_centre"
EMBEDDING_SHAPE = "embedding/distribution"
EMBEDDING = (EMBEDDING_ANGLE, EMBEDDING_OWN, EMBEDDING_SHAPE)

# And of the data set as a whole: see `longtail.components.drift.overlap`.
GONE = "data/identities_gone"
SHARES = "data/identity_shares"
LARGEST = "data/largest_identities"
REPEATED = "data/repeated_images"
COPIES = "data/copies"
FOLDERS = "data/new_folders"

# All that has a threshold of its own.
COMPARED = (*STATISTICS, GONE, SHARES, LARGEST, REPEATED, COPIES, FOLDERS, *EMBEDDING)

# Added by the rebalancer.
CLASS_ID = "class_id"  # int64, dense, by the census

TRAIN_SPLIT = "train"  # TFX split names
EVAL_SPLIT = "eval"
TRAIN = b"train"  # values of `split`
QUERY = b"query"
GALLERY = b"gallery"
