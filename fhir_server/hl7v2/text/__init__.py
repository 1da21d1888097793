"""HL7 v2 as text: bytes to messages, their grammar and what is said of faults, and messages to bytes. Pure; https://www.hl7.eu/refactored/ch02.html"""
