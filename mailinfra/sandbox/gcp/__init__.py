"""Google Cloud on one machine: Cloud KMS over a SoftHSM token, Cloud Storage, IAM, Compute Engine, Cloud DNS.

`api.py` puts the REST APIs together, `service.py` is the daemon's part. What is not enforced is said in the module
that would have to: `identity.py` (who may do what), `compute.py` (networks, servers), `storage.py`.
"""
