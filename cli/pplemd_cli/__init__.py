"""The command `pplemd`: one file for each command; parse, one library call, print."""
