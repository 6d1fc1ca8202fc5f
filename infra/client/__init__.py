"""The Python client and its command line, for programs and people outside of this repository.

``python -m infra.client`` (or ``make client``) generates the typed client from the OpenAPI document, adds what
``inference_client`` holds by hand, and builds a wheel below ``build/client``. Nothing generated is committed.
"""
