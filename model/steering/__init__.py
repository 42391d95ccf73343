"""Attention that points: what a model's answer attends to, and soft prompts that steer it."""
