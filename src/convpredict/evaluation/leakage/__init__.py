"""Hindsight that hides in training data: what each column, kind and id knows that it could not have known then."""
