"""Plays access logs through a guard at the logs' own time: who would have been refused, when, and on what evidence."""
