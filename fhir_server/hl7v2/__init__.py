"""HL7 v2 messages, by MLLP and by HTTP."""
