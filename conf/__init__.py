"""What crosses a boundary: the recipe, each stage's config, the job spec and the artifact record."""
