"""Judging a model: does it find identities again, and as well as the last blessed one?"""
