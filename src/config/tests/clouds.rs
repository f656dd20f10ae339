//! Providers in clouds: where they are, and how the gateway logs in.

use super::*;

/// One provider with these members, in this environment.
fn provider_in(members: &str, environment: &[(&str, &str)]) -> Provider {
    let text = format!("providers: [{{ name: p, {members} }}]");
    let mut config = good_in(&text, environment);
    assert_eq!(config.providers.len(), 1);
    config.providers.remove(0)
}

fn provider(members: &str) -> Provider {
    provider_in(members, &[])
}

fn login_in(members: &str, environment: &[(&str, &str)]) -> Login {
    provider_in(members, environment).cloud.login.unwrap()
}

/// Everything that is wrong with one provider, without its place in the file.
fn mistakes(members: &str) -> Vec<String> {
    let text = format!("providers: [{{ name: p, {members} }}]");
    let lines = lines(&said(&text, &[]), "error");
    lines.iter().map(|line| line.replacen("f:1:", "", 1).replacen(": error: ", " ", 1)).collect()
}

#[test]
fn kinds_with_an_address_of_their_own_need_none() {
    let cases = [
        ("kind: openai", "https://api.openai.com/v1"),
        ("kind: anthropic", "https://api.anthropic.com"),
        ("kind: gemini", "https://generativelanguage.googleapis.com"),
        ("kind: vertex, project: p, location: global", "https://aiplatform.googleapis.com"),
        ("kind: vertex, project: p, location: eu", "https://aiplatform.eu.rep.googleapis.com"),
        ("kind: vertex, project: p, location: us", "https://aiplatform.us.rep.googleapis.com"),
        (
            "kind: vertex, project: p, location: europe-west4",
            "https://europe-west4-aiplatform.googleapis.com",
        ),
        ("kind: vertex, api_keys: [k]", "https://aiplatform.googleapis.com"),
        (
            "kind: bedrock, region: eu-central-1",
            "https://bedrock-runtime.eu-central-1.amazonaws.com",
        ),
        (
            "kind: bedrock, region: cn-north-1",
            "https://bedrock-runtime.cn-north-1.amazonaws.com.cn",
        ),
        ("kind: bedrock, region: r, base_url: \"https://b.example.org\"", "https://b.example.org"),
        ("kind: anthropic, base_url: \"http://a.example.org/x\"", "http://a.example.org/x"),
    ];
    for (members, expected) in cases {
        let provider = provider(members);
        let urls: Vec<String> = provider.endpoints.iter().map(|it| it.url.to_string()).collect();
        assert_eq!(urls, [expected], "{members}");
    }
}

/// The members of a provider, and all that is wrong with it.
const MISTAKES: &[(&str, &[&str])] = &[
    (
        "kind: vertex",
        &["13 `location` is missing in `providers`", "13 `project` is missing in `providers`"],
    ),
    ("kind: bedrock", &["13 `region` is missing in `providers`"]),
    ("kind: bedrock, api_keys: [k]", &["13 `region` is missing in `providers`"]),
    ("kind: bedrock, api_keys: [k], base_url: \"https://b\"", &[]),
    (
        "kind: bedrock, region: r, access_key_id: a",
        &["13 `secret_access_key` is missing in `providers`"],
    ),
    (
        "kind: bedrock, region: r, session_token: a",
        &[
            "13 `access_key_id` is missing in `providers`",
            "13 `secret_access_key` is missing in `providers`",
        ],
    ),
    (
        "kind: bedrock, region: r, access_key_id: a, secret_access_key: \"${NO_KEY}\"",
        &["13 one of `access_key_id` and `secret_access_key` is empty"],
    ),
    (
        "kind: bedrock, region: r, access_key_id: a, secret_access_key: b, api_keys: [k]",
        &["13 Bedrock is called with `api_keys` or with `access_key_id`, not both"],
    ),
    (
        "kind: bedrock, region: EU_1",
        &["47 `region` must be small letters, digits and hyphens, not `EU_1`"],
    ),
    (
        "kind: vertex, location: l, project: \"a/b\"",
        &["60 `project` must be letters, digits, hyphens and dots, not `a/b`"],
    ),
    ("kind: openai, region: r", &["46 `region` is only for kind `bedrock`"]),
    (
        "kind: vertex, project: p, location: l, region: r",
        &["71 `region` is only for kind `bedrock` (`location` says where Vertex is)"],
    ),
    (
        "kind: bedrock, region: r, projct: p",
        &["50 unknown key `projct` in `providers` (did you mean `project`?)"],
    ),
    (
        "kind: openai, token_url: \"https://t\"",
        &["49 `token_url` is only for kinds `vertex`, `bedrock` and `azure`"],
    ),
    (
        "kind: vertex, project: p, location: l, token_url: \"t\"",
        &["74 `token_url` must begin with http:// or https://"],
    ),
    (
        "kind: azure, base_url: \"https://a\", client_secret: s",
        &["13 `client_id` is missing in `providers`", "13 `tenant_id` is missing in `providers`"],
    ),
    (
        "kind: azure, base_url: \"https://a\", tenant_id: t, client_id: c",
        &[
            "13 an identity needs one of `client_secret`, `federated_token_file` and `managed_identity: true`",
        ],
    ),
    (
        "kind: azure, base_url: \"https://a\", managed_identity: true, client_secret: s",
        &[
            "13 an identity needs one of `client_secret`, `federated_token_file` and `managed_identity: true`",
        ],
    ),
    (
        "kind: azure, base_url: \"https://a\", managed_identity: true, api_keys: [k]",
        &["13 Azure is called with `api_keys` or with an identity, not both"],
    ),
    (
        "kind: azure, base_url: \"https://a\", api_keys: [k], scope: s",
        &["82 `scope` belongs to an identity, such as `managed_identity: true`"],
    ),
    ("project: p, region: r", &["13 `kind` is missing in `providers`"]),
];

#[test]
fn what_is_missing_or_out_of_place_is_told() {
    for (members, expected) in MISTAKES {
        assert_eq!(mistakes(members), *expected, "{members}");
    }
}

#[test]
fn a_mistake_never_repeats_a_secret() {
    let members =
        "kind: bedrock, region: r, access_key_id: \"canary a\", secret_access_key: \"canary\\tb\"";
    let said = mistakes(members).join("\n");
    assert!(said.contains("`access_key_id` holds characters"), "{said}");
    assert!(!said.contains("canary"), "{said}");
    let provider =
        provider("kind: bedrock, region: r, access_key_id: canary, secret_access_key: canary");
    assert!(!format!("{provider:?}").contains("canary"));
}

#[test]
fn aws_keys_are_looked_for_in_the_order_of_its_sdks() {
    let all = [
        ("AWS_ACCESS_KEY_ID", "env-id"),
        ("AWS_SECRET_ACCESS_KEY", "env-secret"),
        ("AWS_SESSION_TOKEN", "env-token"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/token"),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/r"),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials"),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/var/run/pod"),
    ];
    let aws = |members: &str, environment: &[(&str, &str)]| match login_in(
        &format!("kind: bedrock, region: eu-west-1{members}"),
        environment,
    ) {
        Login::Aws(login) => login,
        other => panic!("not of AWS: {other:?}"),
    };
    let keys = |id: &str, secret: &str, token: Option<&str>| {
        let [id, secret] = [id, secret].map(Secret::new);
        AwsLogin::Keys(AccessKey { id, secret, session_token: token.map(Secret::new) })
    };
    let own = ", access_key_id: i, secret_access_key: s";
    assert_eq!(aws(own, &all), keys("i", "s", None), "no token of the environment's");
    let lent = ", access_key_id: i, secret_access_key: s, session_token: t";
    assert_eq!(aws(lent, &all), keys("i", "s", Some("t")));
    assert_eq!(aws("", &all), keys("env-id", "env-secret", Some("env-token")));
    let empty = ", access_key_id: \"${NO_KEY}\", secret_access_key: \"${NO_KEY}\"";
    assert_eq!(aws(empty, &all), keys("env-id", "env-secret", Some("env-token")));
    let role = |url: &str| AwsLogin::WebIdentity {
        role: "arn:aws:iam::1:role/r".to_owned(),
        session: "forebay".to_owned(),
        token_file: "/var/run/token".into(),
        url: url.parse().unwrap(),
    };
    assert_eq!(aws("", &all[3..]), role("https://sts.eu-west-1.amazonaws.com"));
    let elsewhere = ", token_url: \"http://127.0.0.1:1\"";
    assert_eq!(aws(elsewhere, &all[3..]), role("http://127.0.0.1:1"));
    let container = AwsLogin::Container {
        url: "http://169.254.170.23".parse().unwrap(),
        target: "/v1/credentials".to_owned(),
        authorization: Some(Authorization::File("/var/run/pod".into())),
    };
    assert_eq!(aws("", &all[5..]), container);
    assert_eq!(aws("", &[]), AwsLogin::Instance("http://169.254.169.254".parse().unwrap()));
}

#[test]
fn whoever_brings_a_key_needs_no_login() {
    for members in [
        "kind: bedrock, region: r, api_keys: [k]",
        "kind: vertex, api_keys: [k]",
        "kind: bedrock, region: r, client_auth: forward",
        "kind: vertex, project: p, location: l, client_auth: forward",
        "kind: azure, base_url: \"https://a\", api_keys: [k]",
        "kind: openai, api_keys: [k]",
    ] {
        assert_eq!(provider(members).cloud.login, None, "{members}");
    }
}

#[test]
fn google_credentials_are_looked_for_in_the_order_of_its_libraries() {
    let vertex = "kind: vertex, project: p, location: global";
    let around = [("GOOGLE_APPLICATION_CREDENTIALS", "/env.json"), ("HOME", "/home/a")];
    let google = |members: &str, environment: &[(&str, &str)]| match login_in(
        &format!("{vertex}{members}"),
        environment,
    ) {
        Login::Google(login) => login,
        other => panic!("not of Google: {other:?}"),
    };
    let named = google(", credentials_file: sa.json", &around);
    assert_eq!(named.file.as_deref(), Some(Path::new("sa.json")));
    assert_eq!(google("", &around).file.as_deref(), Some(Path::new("/env.json")));
    let user = google("", &around[1..]);
    let adc = "/home/a/.config/gcloud/application_default_credentials.json";
    assert_eq!((user.file.as_deref(), user.gcloud.as_deref()), (None, Some(Path::new(adc))));
    assert_eq!(user.metadata.to_string(), "http://169.254.169.254");
    let moved = google("", &[("GCE_METADATA_HOST", "127.0.0.1:81")]);
    assert_eq!(moved.metadata.to_string(), "http://127.0.0.1:81");
}

#[test]
fn files_stand_relative_to_the_configuration() {
    let text = "providers: [{ name: p, kind: vertex, project: p, location: l, credentials_file: sa.json }, \
        { name: a, kind: azure, base_url: \"https://a\", tenant_id: t, client_id: c, federated_token_file: /abs/token }]";
    let file = Source { path: Some("/etc/forebay/forebay.yaml".into()), ..source(text, &[]) };
    let (config, _) = load(&file).unwrap();
    let files: Vec<_> = config.providers.iter().map(|it| it.cloud.login.as_ref()?.file()).collect();
    let expected = ["/etc/forebay/sa.json", "/abs/token"].map(|path| Some(Path::new(path)));
    assert_eq!(files, expected);
}

#[test]
fn entra_has_three_ways_in() {
    let azure = |members: &str, environment: &[(&str, &str)]| {
        let members = format!("kind: azure, base_url: \"https://x.openai.azure.com\", {members}");
        match login_in(&members, environment) {
            Login::Azure(login) => login,
            other => panic!("not of Azure: {other:?}"),
        }
    };
    let secret = azure("tenant_id: t-1, client_id: c, client_secret: s", &[]);
    let url = "https://login.microsoftonline.com/t-1/oauth2/v2.0/token";
    assert_eq!(secret.url.to_string(), url);
    assert_eq!(secret.proof, AzureProof::Secret(Secret::new("s")));
    assert_eq!(secret.scope, "https://cognitiveservices.azure.com/.default");
    let file = azure(
        "tenant_id: t, client_id: c, federated_token_file: /f, scope: \"https://ai.azure.com/.default\"",
        &[],
    );
    assert_eq!(
        (file.proof, file.scope.as_str()),
        (AzureProof::File("/f".into()), "https://ai.azure.com/.default")
    );
    let machine = azure("managed_identity: true", &[]);
    let url = "http://169.254.169.254/metadata/identity/oauth2/token";
    assert_eq!((machine.url.to_string().as_str(), machine.proof), (url, AzureProof::Machine(None)));
    let service =
        [("IDENTITY_ENDPOINT", "http://127.0.0.1:41/msi/token"), ("IDENTITY_HEADER", "h")];
    let service = azure("managed_identity: true, client_id: c", &service);
    assert_eq!(service.url.to_string(), "http://127.0.0.1:41/msi/token");
    assert_eq!(service.proof, AzureProof::Machine(Some(Secret::new("h"))));
    assert_eq!(service.client_id.as_deref(), Some("c"));
}

#[test]
fn the_database_names_no_files_and_no_token_servers() {
    let file = "store: { url: 'sqlite:x', dynamic: true }";
    let said = |item: &str| {
        let dynamic = Dynamic { section: "providers", id: "x1".to_owned(), text: item.to_owned() };
        match load(&Source { dynamic: vec![dynamic], ..source(file, &[]) }) {
            Ok((_, problems)) | Err(problems) => Problems::new(None, problems).to_string(),
        }
    };
    let item = r#"{"name": "p", "kind": "vertex", "project": "p", "location": "l", "credentials_file": "/etc/passwd", "token_url": "https://t"}"#;
    for name in ["credentials_file", "token_url"] {
        let message = format!(
            "error: providers \"x1\" (store): `{name}` can be set only in the configuration's file"
        );
        assert!(said(item).contains(&message), "{}", said(item));
    }
    let item = r#"{"name": "p", "kind": "vertex", "project": "p", "location": "l"}"#;
    assert!(!said(item).contains("error"), "{}", said(item));
}

#[test]
fn translation_is_lenient_unless_it_is_said() {
    let text = "\
providers: [{ name: p, kind: anthropic, api_keys: [k], dialect: openai_chat }]
models:
  - { name: a, targets: [{ provider: p }], translation: strict }
  - { name: b, targets: [{ provider: p }] }
";
    let config = good(text);
    assert_eq!(config.translation, Translation::Lenient);
    let said: Vec<_> = config.models.iter().map(|model| model.translation).collect();
    assert_eq!(said, [Some(Translation::Strict), None]);
    assert_eq!(config.providers[0].dialect, Some(Dialect::OpenaiChat));
    assert_eq!(good(&format!("{text}translation: strict\n")).translation, Translation::Strict);
}
