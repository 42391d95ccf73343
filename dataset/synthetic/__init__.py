"""Endless labelled videos made from cut-outs: scenes, their rendering and questions about them."""
