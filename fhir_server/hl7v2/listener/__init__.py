"""The listener for MLLP: who may connect, blocks out of bytes, and messages of several connections processed together."""
