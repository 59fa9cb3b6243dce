"""What a limit would have done to yesterday's traffic: log files in, a report out; nothing here is needed to limit.

files -> logs, a reader for each format -> trace -> simulate -> report, page, plot
         (clf, rows; keys, times)              `-> smallest -^
"""
