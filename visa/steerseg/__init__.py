"""SteerSeg: where a frozen vision-language model looks becomes points, points tracklets, and one wins.

Attention steering for reasoning video segmentation (Cheraghian et al. 2026, arXiv 2605.14908). Its code
is not public: what abstract, page and figures do not say is a setting, marked as a guess in the preset file.

attributes  one question to the model: how the thing looks, where it is, how it moves
maps        attention of the answer on the frames, of two granularities
fusion      the two become one map of every keyframe
points      peaks of it
candidates  what SAM draws at them, carried over the keyframes
ranking     the tracklets that agree best with the maps

`visa.reasoning.steerseg` calls them in this order.
"""
