"""Many questions about many videos: what a folder's run and a data set's run share.

task        what is to be done: videos, each with its questions
engine      does it, a video at a time; one bad video never stops the rest
manifest    what is finished of a video, on disk
ranks       this process among several, and which videos are its own
locks       no two processes do the same video
bar         what a person sees while it runs
summary     results.json and the table at the end
queries     the file of questions
folder      the videos of a folder as tasks
"""
