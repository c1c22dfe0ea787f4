"""What few images do to an angular variance: it is read around a centre that was fitted on the same few."""

import numpy as np

# The centre forgets within some twenty images: classes of more read as one of so many, to 2 %.
MOST_IMAGES = 64
_HISTORIES = 32  # orders in which a class's images may come, averaged over
_WARM_EPOCHS = 8


def factors(images: int, images_kept: int, centre_momentum: float) -> tuple[float, float]:
    """How the variance of a memory's angles hangs on the true one: E[reading] = a * true + b * mean^2.

    A class of n images seen one after the other, each once an epoch, has the centre sum_j w_j x_j. The deviation of
    image i from it has the weights u = e_i - w, its length is sqrt(u' G u), G the images' Gram matrix around the true
    centre. For independent deviations in many dimensions G is s^2 (I + E) with E small, so that

      angle_t = s sqrt(h_t) (1 + u_t' E u_t / 2 h_t),  h_t = |u_t|^2,
      a = mean_t h_t - mean_{t != r} (u_t' u_r)^2 / sqrt(h_t h_r),  b = var_t(sqrt h_t) / mean_t(sqrt h_t)^2.

    A centre that is the mean of all n images has a = (n - 2) / (n - 1), b = 0: two images say nothing, since both are
    as far from their mean. h_t also varies with how long ago image i was last in the centre, which b takes out. The
    memory holds the last `images_kept` epochs: angles of the same image, which is in the second sum.

    Args:
      images: n, at least 2.
      images_kept: P.
      centre_momentum: gamma, weight of the previous centre; angles are taken before it moves.

    Returns:
      a and b.

    Example: four images read 0.6 of their variance, twenty all of it.

    >>> few, many = (small_classes.factors(n, images_kept=3, centre_momentum=0.9) for n in (4, 20))
    >>> round(few[0], 1), round(many[0], 1)
    (0.6, 1.0)
    """
    images = min(images, MOST_IMAGES)
    rng = np.random.default_rng(0)
    epochs = _WARM_EPOCHS + images_kept
    orders = np.argsort(rng.random((_HISTORIES, epochs, images)), axis=2).reshape(_HISTORIES, -1)
    weights = np.eye(images)[orders[:, 0]]
    kept = []
    for step in range(1, orders.shape[1]):
        image = np.eye(images)[orders[:, step]]
        if step >= _WARM_EPOCHS * images:
            kept.append(image - weights)
        weights = centre_momentum * weights + (1.0 - centre_momentum) * image
    u = np.stack(kept, axis=1)
    length = np.linalg.norm(u, axis=2)
    # With v_t = u_t / |u_t|^(1/2) a term of the second sum is (v_t' v_r)^2, and all of them are |sum_t v_t v_t'|^2.
    v = u / np.sqrt(length)[:, :, np.newaxis]
    own = (length**2).sum(axis=1)  # sum of h_t^2 / h_t
    others = (np.square(v.transpose(0, 2, 1) @ v).sum(axis=(1, 2)) - own) / (len(kept) * (len(kept) - 1))
    a = np.mean(own / len(kept) - others)
    b = np.mean(length.var(axis=1, ddof=1) / length.mean(axis=1) ** 2)
    return float(a), float(b)
