"""Policies for mail systems on AWS, GCP and Cloudflare, for any Pulumi program."""
