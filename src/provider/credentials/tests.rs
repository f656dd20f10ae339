use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::{HeaderValue, Method, header};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::{Value, json};

use super::sigv4_tests::{BEDROCK, headers, moment};
use super::*;
use crate::config::{
    AccessKey, Authorization, AwsLogin, AzureLogin, AzureProof, GoogleLogin, Secret,
};

const SERVICE_ACCOUNT: &str = include_str!("../../../tests/fixtures/google/service_account.json");

fn now() -> SystemTime {
    moment("2026-11-20T12:00:00Z")
}

/// The one request that a login takes, its file being this.
fn asks(login: &config::Login, file: &str) -> Asking {
    let step = Step::first(login, |_| Ok(file.to_owned()), now());
    match step.unwrap() {
        Step::Ask(asking) => asking,
        Step::Done(token) => panic!("no question, but {token:?}"),
    }
}

/// A form's members, or a query's.
fn members(text: &str) -> Vec<(String, String)> {
    let decoded =
        |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into();
    let member =
        |pair: &str| pair.split_once('=').map(|(name, value)| (name.into(), decoded(value)));
    text.split('&').map(|pair| member(pair).unwrap()).collect()
}

fn body(asking: &Asking) -> Vec<(String, String)> {
    members(std::str::from_utf8(&asking.request.body).unwrap())
}

fn header<'r>(request: &'r TokenRequest, name: &str) -> Option<&'r HeaderValue> {
    request.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value)
}

/// What came of an answer: a token's `Authorization`, and its time.
fn bearer(step: Result<Step, Unobtained>) -> (String, u64) {
    let Step::Done(token) = step.unwrap() else { panic!("another question") };
    let Grant::Bearer(value) = &token.grant else { panic!("no bearer: {token:?}") };
    assert!(value.is_sensitive());
    let left = token.left(Instant::now()).unwrap() + Duration::from_millis(500);
    (value.to_str().unwrap().to_owned(), left.as_secs())
}

fn failure(step: Result<Step, Unobtained>) -> String {
    step.unwrap_err().to_string()
}

// === Google ===

fn google(file: Option<&str>) -> GoogleLogin {
    GoogleLogin {
        file: file.map(PathBuf::from),
        gcloud: Some(PathBuf::from("/home/somebody/adc.json")),
        metadata: "http://169.254.169.254".parse().unwrap(),
        token_url: None,
    }
}

#[test]
fn a_service_account_shows_a_token_that_it_has_signed() {
    let asking = asks(&config::Login::Google(google(Some("/sa.json"))), SERVICE_ACCOUNT);
    let TokenRequest { method, url, target, .. } = &asking.request;
    assert_eq!((method, target.as_str()), (&Method::POST, "/token"));
    assert_eq!(url.to_string(), "https://oauth2.googleapis.com/token");
    let body = body(&asking);
    let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
    assert_eq!(body[0], ("grant_type".to_owned(), grant.to_owned()));
    let parts: Vec<&str> = body[1].1.split('.').collect();
    let decoded = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap();
    let read = |part: &str| serde_json::from_slice::<Value>(&decoded(part)).unwrap();
    let id = "0123456789abcdef0123456789abcdef01234567";
    assert_eq!(read(parts[0]), json!({ "alg": "RS256", "typ": "JWT", "kid": id }));
    let iat = now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({
        "iss": "gateway@fake-project.iam.gserviceaccount.com",
        "scope": "https://www.googleapis.com/auth/cloud-platform",
        "aud": "https://oauth2.googleapis.com/token",
        "iat": iat,
        "exp": iat + 3600,
    });
    assert_eq!(read(parts[1]), claims);
    let Ok(google::Account::Service { key, .. }) = google::Account::read(SERVICE_ACCOUNT) else {
        panic!("a service account")
    };
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public().as_ref());
    let signed = format!("{}.{}", parts[0], parts[1]);
    public.verify(signed.as_bytes(), &decoded(parts[2])).unwrap();

    let answer = br#"{"access_token":"ya29.fake","expires_in":3599,"token_type":"Bearer"}"#;
    assert_eq!(bearer(asking.next(200, answer, now())), ("Bearer ya29.fake".to_owned(), 3599));
}

#[test]
fn googles_order_of_credentials_is_kept() {
    let file = json!({
        "type": "authorized_user", "client_id": "c", "client_secret": "canary-1",
        "refresh_token": "canary/2", "token_uri": "https://tokens.example.org/t",
    })
    .to_string();
    let read = |path: &Path| match path.to_str().unwrap() {
        "/home/somebody/adc.json" => Ok(file.clone()),
        _ => Err(ErrorKind::NotFound.into()),
    };
    let first = |given| Step::first(&config::Login::Google(given), read, now());
    // What is named has to be there.
    let expected = "/named.json: entity not found";
    assert_eq!(failure(first(google(Some("/named.json")))), expected);
    let Ok(Step::Ask(user)) = first(google(None)) else { panic!("gcloud's file is taken") };
    assert_eq!(user.request.url.to_string(), "https://tokens.example.org/t");
    let pairs = [
        ("grant_type", "refresh_token"),
        ("client_id", "c"),
        ("client_secret", "canary-1"),
        ("refresh_token", "canary/2"),
    ];
    assert_eq!(body(&user), pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert!(!format!("{user:?}").contains("canary"));
    let absent = GoogleLogin { gcloud: None, ..google(None) };
    let Ok(Step::Ask(machine)) = first(absent) else { panic!("the metadata server is asked") };
    let request = &machine.request;
    assert_eq!((&request.method, request.host().as_str()), (&Method::GET, "169.254.169.254"));
    let target = "/computeMetadata/v1/instance/service-accounts/default/token";
    assert_eq!(request.target, target);
    assert_eq!(header(request, "metadata-flavor").unwrap(), "Google");
}

#[test]
fn what_is_wrong_with_a_file_is_told_without_a_word_of_it() {
    let with = |name: &str, value: Value| {
        let mut file: Value = serde_json::from_str(SERVICE_ACCOUNT).unwrap();
        file[name] = value;
        google::Account::read(&file.to_string()).err()
    };
    let cases = [
        (with("type", json!("external_account")), {
            "credentials of type `external_account` are not supported"
        }),
        (with("type", json!("canary")), "credentials of an unknown type"),
        (with("type", json!(1)), "no credentials as Google writes them: JSON with a `type`"),
        (with("client_email", Value::Null), "`client_email` is missing"),
        (with("private_key", json!("")), "`private_key` is missing"),
        (with("private_key", json!("canary")), "`private_key` is no private key in PEM"),
        (
            with("token_uri", json!("ftp://canary")),
            "`token_uri` must begin with http:// or https://",
        ),
        (google::Account::read("canary").err(), {
            "no credentials as Google writes them: JSON with a `type`"
        }),
    ];
    for (said, expected) in cases {
        assert_eq!(said.as_deref(), Some(expected));
    }
    assert_eq!(with("token_uri", json!("")), None, "Google's own");
}

#[test]
fn a_refusal_is_told_in_the_words_of_who_refused() {
    let asking = || asks(&config::Login::Google(google(Some("/sa.json"))), SERVICE_ACCOUNT);
    let said = |status, body: &str| failure(asking().next(status, body.as_bytes(), now()));
    assert_eq!(
        said(400, r#"{"error":"invalid_grant","error_description":"Invalid JWT Signature."}"#),
        "oauth2.googleapis.com answers 400: invalid_grant: Invalid JWT Signature."
    );
    assert_eq!(
        said(403, r#"{"error":{"code":403,"status":"PERMISSION_DENIED","message":"No."}}"#),
        "oauth2.googleapis.com answers 403: PERMISSION_DENIED: No."
    );
    assert_eq!(said(502, "<html>"), "oauth2.googleapis.com answers 502");
    let unusable = "what oauth2.googleapis.com answers cannot be used: ";
    for (body, reason) in [
        ("<html>", "it has no `access_token`"),
        (r#"{"access_token":"a b","expires_in":9}"#, "no header can carry its token"),
        (r#"{"access_token":"a","expires_in":0}"#, "its token has expired"),
        (r#"{"access_token":"a","expires_in":-5}"#, "its token has expired"),
    ] {
        assert_eq!(said(200, body), format!("{unusable}{reason}"), "{body}");
    }
    let untold = bearer(asking().next(200, br#"{"access_token":"a"}"#, now()));
    assert_eq!(untold, ("Bearer a".to_owned(), 300));
}

// === Azure ===

fn azure(proof: AzureProof) -> config::Login {
    let url = match proof {
        AzureProof::Machine(None) => "http://169.254.169.254/metadata/identity/oauth2/token",
        AzureProof::Machine(Some(_)) => "http://127.0.0.1:41/msi/token",
        _ => "https://login.microsoftonline.com/fake-tenant/oauth2/v2.0/token",
    };
    config::Login::Azure(AzureLogin {
        url: url.parse().unwrap(),
        client_id: Some("app".to_owned()),
        scope: "https://cognitiveservices.azure.com/.default".to_owned(),
        proof,
    })
}

#[test]
fn an_application_shows_entra_its_secret_or_the_token_in_a_file() {
    let scope = "https://cognitiveservices.azure.com/.default";
    let common = [("grant_type", "client_credentials"), ("client_id", "app"), ("scope", scope)];
    let expected = |rest: &[(&str, &str)]| -> Vec<(String, String)> {
        let pairs = common.iter().chain(rest);
        pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let asking = asks(&azure(AzureProof::Secret(Secret::new("s e&c=ret"))), "");
    assert_eq!(asking.request.target, "/fake-tenant/oauth2/v2.0/token");
    assert_eq!(body(&asking), expected(&[("client_secret", "s e&c=ret")]));
    let form = "application/x-www-form-urlencoded";
    assert_eq!(header(&asking.request, "content-type").unwrap(), form);

    let asking = asks(&azure(AzureProof::File(PathBuf::from("/token"))), "jwt\n");
    let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    let shown = [("client_assertion_type", kind), ("client_assertion", "jwt")];
    assert_eq!(body(&asking), expected(&shown));
    let answer = br#"{"token_type":"Bearer","expires_in":3599,"access_token":"eyJ.fake"}"#;
    assert_eq!(bearer(asking.next(200, answer, now())), ("Bearer eyJ.fake".to_owned(), 3599));
}

#[test]
fn a_machine_asks_the_service_it_has() {
    let resource = "https://cognitiveservices.azure.com";
    let expected = |version: &str| {
        let pairs = [("api-version", version), ("resource", resource), ("client_id", "app")];
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    let asking = asks(&azure(AzureProof::Machine(None)), "");
    let (path, query) = asking.request.target.split_once('?').unwrap();
    assert_eq!(path, "/metadata/identity/oauth2/token");
    assert_eq!(members(query), expected("2018-02-01"));
    assert_eq!(header(&asking.request, "metadata").unwrap(), "true");
    // Numbers as text.
    let answer = br#"{"access_token":"a","expires_in":"86399","expires_on":"1"}"#;
    assert_eq!(bearer(asking.next(200, answer, now())).1, 86399);

    let asking = asks(&azure(AzureProof::Machine(Some(Secret::new("canary")))), "");
    let (path, query) = asking.request.target.split_once('?').unwrap();
    assert_eq!((path, members(query)), ("/msi/token", expected("2019-08-01").to_vec()));
    let shown = header(&asking.request, "x-identity-header").unwrap();
    assert!(shown == "canary" && shown.is_sensitive());
    let end = SystemTime::now() + Duration::from_mins(10);
    let end = end.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let answer = json!({ "access_token": "a", "expires_on": end.to_string() }).to_string();
    let left = bearer(asking.next(200, answer.as_bytes(), now())).1;
    assert!((598..=600).contains(&left), "{left}");
}

// === AWS ===

/// The keys that were lent: the id, and for how long.
fn lent(step: Result<Step, Unobtained>) -> (String, u64) {
    let Step::Done(token) = step.unwrap() else { panic!("another question") };
    let Grant::Keys(keys) = &token.grant else { panic!("no keys: {token:?}") };
    let headers = headers(&[("host", BEDROCK)]);
    let added = keys.sign("GET", "/", &headers, [], ("r", "s"), now()).unwrap();
    let value = added.iter().find(|(name, _)| name == header::AUTHORIZATION).unwrap();
    let (_, rest) = value.1.to_str().unwrap().split_once("Credential=").unwrap();
    let left = token.left(Instant::now()).unwrap() + Duration::from_millis(500);
    (rest.split('/').next().unwrap().to_owned(), left.as_secs())
}

fn next(asking: Asking, status: u16, body: &str) -> Result<Step, Unobtained> {
    asking.next(status, body.as_bytes(), now())
}

#[test]
fn a_role_is_taken_for_the_token_in_a_file() {
    let login = config::Login::Aws(AwsLogin::WebIdentity {
        role: "arn:aws:iam::123456789012:role/gateway".to_owned(),
        session: "forebay".to_owned(),
        token_file: PathBuf::from("/token"),
        url: "https://sts.eu-central-1.amazonaws.com".parse().unwrap(),
    });
    let asking = asks(&login, "canary.jwt\n");
    assert_eq!((&asking.request.method, asking.request.target.as_str()), (&Method::POST, "/"));
    let pairs = [
        ("Action", "AssumeRoleWithWebIdentity"),
        ("Version", "2011-06-15"),
        ("RoleArn", "arn:aws:iam::123456789012:role/gateway"),
        ("RoleSessionName", "forebay"),
        ("WebIdentityToken", "canary.jwt"),
    ];
    assert_eq!(body(&asking), pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let answer = "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
        <AssumeRoleWithWebIdentityResult><Credentials><SessionToken>FwoG/+=</SessionToken>\
        <SecretAccessKey>fake/secret+1</SecretAccessKey><Expiration>2026-11-20T13:00:00Z</Expiration>\
        <AccessKeyId>ASIAFAKE</AccessKeyId></Credentials></AssumeRoleWithWebIdentityResult>\
        </AssumeRoleWithWebIdentityResponse>";
    assert_eq!(lent(next(asking, 200, answer)), ("ASIAFAKE".to_owned(), 3600));
    let refused = "<ErrorResponse><Error><Type>Sender</Type><Code>ExpiredTokenException</Code>\
        <Message>Token expired: canary.jwt</Message></Error></ErrorResponse>";
    let said = failure(next(asks(&login, "canary.jwt"), 400, refused));
    assert_eq!(said, "sts.eu-central-1.amazonaws.com answers 400: ExpiredTokenException");
}

#[test]
fn a_container_shows_what_its_host_gave_it() {
    let login = |authorization| {
        config::Login::Aws(AwsLogin::Container {
            url: "http://169.254.170.23".parse().unwrap(),
            target: "/v1/credentials?a=b".to_owned(),
            authorization,
        })
    };
    let file = login(Some(Authorization::File(PathBuf::from("/token"))));
    let asking = asks(&file, " canary\n");
    assert_eq!(asking.request.target, "/v1/credentials?a=b");
    let shown = header(&asking.request, "authorization").unwrap();
    assert!(shown == "canary" && shown.is_sensitive());
    let answer = r#"{"AccessKeyId":"ASIAFAKE","SecretAccessKey":"s","Token":"t","Expiration":"2026-11-20T12:10:00Z"}"#;
    assert_eq!(lent(next(asking, 200, answer)), ("ASIAFAKE".to_owned(), 600));
    let plain = asks(&login(None), "");
    assert!(header(&plain.request, "authorization").is_none());
    let said = failure(next(plain, 404, r#"{"code":"NotFound","message":"No role."}"#));
    assert_eq!(said, "169.254.170.23 answers 404: NotFound: No role.");
}

#[test]
fn an_instance_is_asked_for_a_token_its_role_and_the_keys() {
    let url = "http://169.254.169.254".parse().unwrap();
    let login = config::Login::Aws(AwsLogin::Instance(url));
    let asking = asks(&login, "");
    let asked = |asking: &Asking| format!("{} {}", asking.request.method, asking.request.target);
    assert_eq!(asked(&asking), "PUT /latest/api/token");
    let ttl = header(&asking.request, "x-aws-ec2-metadata-token-ttl-seconds");
    assert_eq!(ttl.unwrap(), "21600");
    let further = |step: Result<Step, Unobtained>| match step.unwrap() {
        Step::Ask(asking) => asking,
        Step::Done(token) => panic!("too early: {token:?}"),
    };
    let asking = further(next(asking, 200, "canary=="));
    assert_eq!(asked(&asking), "GET /latest/meta-data/iam/security-credentials/");
    assert_eq!(header(&asking.request, "x-aws-ec2-metadata-token").unwrap(), "canary==");
    let unusable = "what 169.254.169.254 answers cannot be used: it names no role of the instance";
    let odd = further(next(asks(&login, ""), 200, "t"));
    assert_eq!(failure(next(odd, 200, "../a b")), unusable);
    let asking = further(next(asking, 200, "gateway-role\n"));
    assert_eq!(asked(&asking), "GET /latest/meta-data/iam/security-credentials/gateway-role");
    assert_eq!(header(&asking.request, "x-aws-ec2-metadata-token").unwrap(), "canary==");
    let answer = r#"{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":"ASIAFAKE","SecretAccessKey":"s","Token":"t","Expiration":"2026-11-20T18:00:00Z"}"#;
    assert_eq!(lent(next(asking, 200, answer)), ("ASIAFAKE".to_owned(), 6 * 3600));
}

#[test]
fn keys_that_are_none_are_told_as_such() {
    let url = "http://169.254.170.2".parse().unwrap();
    let container = AwsLogin::Container { url, target: "/c".to_owned(), authorization: None };
    let login = config::Login::Aws(container);
    let said = |body: &str| failure(next(asks(&login, ""), 200, body));
    let unusable = "what 169.254.170.2 answers cannot be used: ";
    assert_eq!(said("<html>"), format!("{unusable}it has no keys"));
    let keys = r#""AccessKeyId":"a","SecretAccessKey":"b""#;
    assert_eq!(said(&format!("{{{keys}}}")), format!("{unusable}it has no `Expiration`"));
    let over = format!(r#"{{{keys},"Expiration":"2026-11-20T11:59:59Z"}}"#);
    assert_eq!(said(&over), format!("{unusable}its keys have expired"));
    let failed =
        r#"{"Code":"AssumeRoleUnauthorizedAccess","Message":"EC2 cannot assume the role."}"#;
    let expected =
        "169.254.170.2 answers 200: AssumeRoleUnauthorizedAccess: EC2 cannot assume the role.";
    assert_eq!(said(failed), expected);
}

// === the login ===

#[test]
fn a_login_signs_for_the_service_its_host_is_of() {
    let key = AccessKey { id: Secret::new("AKID"), secret: Secret::new("s"), session_token: None };
    let given = config::Login::Aws(AwsLogin::Keys(key));
    let login = Login::new(&given, "eu-central-1", None).unwrap();
    assert!(login.bearer().is_none());
    let signer = login.signer().expect("keys of the configuration need not be asked for");
    for (host, service) in [
        (BEDROCK, "bedrock"),
        ("bedrock-mantle.eu-central-1.api.aws", "bedrock-mantle"),
        ("vpce-1.bedrock-runtime.eu-central-1.vpce.amazonaws.com", "bedrock"),
    ] {
        let added = signer.sign("POST", "/", &headers(&[("host", host)]), []).unwrap();
        let value = added.iter().find(|(name, _)| name == header::AUTHORIZATION).unwrap();
        let scope = format!("/eu-central-1/{service}/aws4_request, ");
        assert!(value.1.to_str().unwrap().contains(&scope), "{host}: {value:?}");
    }
    let again = Login::new(&given, "eu-central-1", Some(&login)).unwrap();
    assert!(std::sync::Arc::ptr_eq(&login, &again), "nothing has changed");
    let moved = Login::new(&given, "us-east-1", Some(&login)).unwrap();
    assert!(!std::sync::Arc::ptr_eq(&login, &moved));
}

#[test]
fn what_is_lent_stays_in_force_while_no_other_comes() {
    let login = Login::new(&azure(AzureProof::Secret(Secret::new("s"))), "", None).unwrap();
    assert!(!login.is_in_force() && login.bearer().is_none() && login.signer().is_none());
    let why = || Unobtained::Refused { host: "h".to_owned(), status: 401, said: String::new() };
    assert!(login.fails(why()), "told once");
    assert!(!login.fails(why()));
    let token = |seconds| {
        let grant = Grant::bearer("t").unwrap();
        Token::lent(grant, Duration::from_secs(seconds), Duration::ZERO)
    };
    assert!(login.lend(token(3600)), "the trouble is over");
    assert!(login.fails(why()) && login.is_in_force());
    assert_eq!(login.bearer().unwrap().1, "Bearer t");
    assert!(!login.fails(why()));
    login.lend(token(0));
    assert!(!login.is_in_force() && login.bearer().is_none(), "it is over");
    assert!(login.fails(why()));
}

#[test]
fn a_file_that_is_named_is_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sa.json");
    let given = || config::Login::Google(google(path.to_str()));
    let said = Login::new(&given(), "", None).unwrap_err().to_string();
    assert!(said.starts_with(&format!("{}: No such file", path.display())), "{said}");
    std::fs::write(&path, "{}").unwrap();
    let said = Login::new(&given(), "", None).unwrap_err().to_string();
    assert!(said.ends_with(": no credentials as Google writes them: JSON with a `type`"), "{said}");
    std::fs::write(&path, SERVICE_ACCOUNT).unwrap();
    assert!(Login::new(&given(), "", None).is_ok());
}
