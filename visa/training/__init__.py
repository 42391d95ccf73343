"""Training: recipes, objectives and loops. Nothing here is needed to run a trained system."""
