"""TF Serving's files are read as TF Serving reads them; what is wrong in one is told with file and line."""

import pytest
import trustme

from longtail.models import errors
from longtail.serving.model_server import metrics
from longtail.serving.model_server.batching import scheduler as batching
from longtail.serving.model_server.config import files as config_files


@pytest.fixture
def write(tmp_path):
    """write(text): the path of a file that holds it."""

    def written(text):
        path = tmp_path / "x.config"
        path.write_text(text)
        return str(path)

    return written


MODELS = """
# a comment
model_config_list: {
  config: {
    name: 'a', base_path: '/models/a'; model_platform: "tensor" "flow"
    model_version_policy: { specific { versions: [1, 2] } }
    version_labels { key: 'stable' value: 1 }
  }
}
"""


def test_models_are_read_in_every_spelling_of_text_protos():
    [config] = config_files.models(MODELS, "x").model_config_list.config
    assert (config.name, config.base_path, config.model_platform) == ("a", "/models/a", "tensorflow")
    assert list(config.model_version_policy.specific.versions) == [1, 2] and config.version_labels == {"stable": 1}


def test_a_list_of_no_models_is_one():
    assert not config_files.models("model_config_list {}", "x").model_config_list.config


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('model_config_list {\n config { base_pth: "/x" }\n}', "x, line 2: Message type .* has no field .*base_pth"),
        ("model_config_list {\n config {\n", "x, line 2: "),
        ("model_config_list { config { model_version_policy { latest {} all {} } } }", "x, line 1: .*all.*latest"),
        ("", "x has no model_config_list"),
        ("custom_model_config {}", "x has no model_config_list"),
    ],
)
def test_models_that_cannot_be_read_are_told_with_file_and_line(text, said):
    with pytest.raises(errors.UsageError, match=f"--model_config_file {said}") as raised:
        config_files.models(text, "x")
    assert "\n" not in str(raised.value)


def test_batching_is_as_the_file_says_and_our_default_where_it_says_nothing(write):
    text = "max_batch_size { value: 32 }  batch_timeout_micros { value: 0 }"
    assert config_files.batching(write(text)) == batching.Options(max_batch_size=32, batch_timeout_micros=0)
    assert config_files.batching(write("")) == batching.Options()


def test_batching_parameters_that_make_no_difference_are_told(write, caplog):
    path = write('thread_pool_name { value: "x" } allowed_batch_sizes: [2, 4] pad_variable_length_inputs: true')
    assert config_files.batching(path) == batching.Options()
    told = ["thread_pool_name", "allowed_batch_sizes", "pad_variable_length_inputs"]
    assert [record.args[2] for record in caplog.records] == told


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_batch_size { value: 0 }", "max_batch_size must be at least 1"),
        ("max_batch_size: 8", "line 1: "),
    ],
)
def test_batching_that_cannot_be_is_bad_usage(write, text, said):
    with pytest.raises(errors.UsageError, match=f"--batching_parameters_file .*x.config.*{said}"):
        config_files.batching(write(text))


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", ""),
        ("prometheus_config { enable: false path: '/x' }", ""),
        ("prometheus_config { enable: true }", metrics.PATH),
        ("prometheus_config { enable: true path: '/x' }", "/x"),
    ],
)
def test_monitoring_says_where_prometheus_reads(write, text, path):
    assert config_files.metrics_path(write(text)) == path


def test_a_monitoring_path_that_is_none_of_a_url_is_bad_usage(write):
    with pytest.raises(
        errors.UsageError, match="x.config: prometheus_config.path must begin with /. Received: metrics"
    ):
        config_files.metrics_path(write("prometheus_config { enable: true path: 'metrics' }"))


def ssl_text(**more):
    certificate = trustme.CA().issue_cert("localhost")
    texts = {
        "server_key": certificate.private_key_pem.bytes().decode(),
        "server_cert": certificate.cert_chain_pems[0].bytes().decode(),
        **more,
    }
    escaped = {key: text.replace("\n", "\\n") for key, text in texts.items()}
    return " ".join(f"{key}: '{text}'" for key, text in escaped.items())


def test_tls_is_read_from_the_pem_texts_in_the_file(write):
    found = config_files.ssl(write(ssl_text()))
    assert found.certificate.startswith(b"-----BEGIN CERTIFICATE") and found.client_ca is None


def test_clients_are_verified_only_where_the_file_says_so(write):
    ca = trustme.CA().cert_pem.bytes().decode()
    assert config_files.ssl(write(ssl_text(custom_ca=ca))).client_ca is None
    assert config_files.ssl(write(ssl_text(custom_ca=ca) + " client_verify: true")).client_ca == ca.encode()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("server_key: '/etc/key.pem'", "server_cert is no certificate in PEM"),
        (ssl_text(server_key="/etc/key.pem"), "server_key is no private key in PEM"),
        (ssl_text() + " client_verify: true", "client_verify needs a custom_ca"),
        ("server_kye: 'x'", "line 1: .*server_kye"),
    ],
)
def test_tls_that_cannot_be_is_bad_usage(write, text, said):
    with pytest.raises(errors.UsageError, match=f"--ssl_config_file .*x.config.*{said}"):
        config_files.ssl(write(text))


@pytest.mark.parametrize("read", [config_files.batching, config_files.metrics_path, config_files.ssl])
def test_a_file_that_cannot_be_read_is_named_with_its_option(tmp_path, read):
    with pytest.raises(errors.UsageError, match="^--[a-z_]+_file .*nowhere cannot be read: No such file or directory$"):
        read(str(tmp_path / "nowhere"))


def test_a_file_of_bytes_is_told_as_such(tmp_path):
    (tmp_path / "x").write_bytes(b"\xff\xfe")
    with pytest.raises(errors.UsageError, match="--batching_parameters_file .*x is not text: .* at byte 0"):
        config_files.batching(str(tmp_path / "x"))
