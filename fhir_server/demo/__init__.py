"""The demo clinic of `serve --demo`: two locations, six doctors, 200 people, a month of visits, and a day that is going on. Nobody in it is real."""

from .clinic import open_clinic

__all__ = ["open_clinic"]
