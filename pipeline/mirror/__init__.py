"""A copy of a deployment's topics on a second cluster, kept so that workers can go on there when the first is lost."""
