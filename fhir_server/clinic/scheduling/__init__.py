"""Scheduling: what is offered, and what becomes of appointments. https://hl7.org/fhir/R4/appointment.html"""
