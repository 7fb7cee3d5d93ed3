from mailinfra_components import DkimKeys, MailKeys
from tests.declared import declare, public_key


def test_aws_keys_rotate_are_slow_to_delete_and_sign_in_their_region() -> None:
    program = declare(
        lambda: MailKeys(
            "mail",
            {
                "cloud": "aws",
                "region": "eu-central-1",
                "zone": "eu",
                "rotation_days": 180,
                "deletion_window_days": 20,
            },
        )
    )
    storage, authority = program.named("mail-storage").inputs, program.named("mail-ca").inputs
    assert (
        storage["enableKeyRotation"],
        storage["rotationPeriodInDays"],
        storage["deletionWindowInDays"],
    ) == (True, 180, 20)
    assert (authority["keyUsage"], authority["customerMasterKeySpec"]) == ("SIGN_VERIFY", "ECC_NIST_P256")
    assert {key.inputs["region"] for key in program.of("aws:kms/key:Key")} == {"eu-central-1"}
    assert {key.inputs["tags"]["residency-zone"] for key in program.of("aws:kms/key:Key")} == {"eu"}


def test_gcp_keys_live_in_the_hsm_and_have_no_name_that_could_be_used_only_once() -> None:
    program = declare(
        lambda: MailKeys(
            "mail", {"cloud": "gcp", "region": "europe-west3", "zone": "eu", "rotation_days": 90}
        )
    )
    keys = program.of("gcp:kms/cryptoKey:CryptoKey")
    assert [key.name for key in keys] == ["mail-ca", "mail-storage"]
    assert {key.inputs["versionTemplate"]["protectionLevel"] for key in keys} == {"HSM"}
    assert program.named("mail-storage").inputs["rotationPeriod"] == f"{90 * 86_400}s"
    assert program.named("mail-ca").inputs["versionTemplate"]["algorithm"] == "EC_SIGN_P256_SHA256"
    members = {m.inputs["member"] for m in program.of("gcp:kms/cryptoKeyIAMMember:CryptoKeyIAMMember")}
    assert members == {
        "serviceAccount:service-0@compute-system.iam.gserviceaccount.com",
        "serviceAccount:agent@gs.test",
    }


def test_dkim_keys_only_sign_and_only_their_public_halves_come_out() -> None:
    made: list[DkimKeys] = []
    generations = [{"serial": "1", "selector": "eu-1"}, {"serial": "2", "selector": "eu-2"}]
    program = declare(
        lambda: made.append(
            DkimKeys(
                "d",
                {
                    "cloud": "aws",
                    "region": "eu-central-1",
                    "zone": "eu",
                    "generations": generations,
                    "bits": 3072,
                },
            )
        )
    )
    keys = program.of("aws:kms/key:Key")
    assert [(key.inputs["keyUsage"], key.inputs["customerMasterKeySpec"]) for key in keys] == [
        ("SIGN_VERIFY", "RSA_3072")
    ] * 2
    public: dict[str, str] = {}
    declare(
        lambda: DkimKeys(
            "d", {"cloud": "aws", "region": "eu-central-1", "zone": "eu", "generations": generations}
        ).public_keys.apply(public.update)
    )
    assert public == {f"eu-{n}": public_key(f"arn:aws:test:::d-{n}") for n in (1, 2)}
