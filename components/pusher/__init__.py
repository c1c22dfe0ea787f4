"""Shipping: a blessed model becomes a version that servers find."""
