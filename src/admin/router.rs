//! Every route, its description, and the page that shows them.

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse as _;
use axum::{Json, Router};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Components, InfoBuilder, OpenApi, OpenApiBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::authorize::{ROOT, authorize};
use super::desk::Desk;
use super::refusal::{Answer, Refusal};
use super::{audit, configuration, keys, models, operations, providers, usage, users};

/// Where the page is.
pub const PAGE: &str = "/swagger-ui";
const DOCUMENT: &str = "/admin/v1/openapi.json";
const SCHEME: &str = "admin_key";

/// What answers, and what describes it.
pub fn router(desk: Arc<Desk>) -> Router {
    let (router, _document) = routes().split_for_parts();
    let page: Router =
        SwaggerUi::new(PAGE).config(Config::new([DOCUMENT]).validator_url("none")).into();
    router
        .route_layer(from_fn_with_state(Arc::clone(&desk), authorize))
        .layer(DefaultBodyLimit::disable())
        .with_state(desk)
        .merge(page)
        .fallback(|| async { Refusal::unknown_path() })
}

/// The description of every route.
pub fn document() -> OpenApi {
    let mut document = routes().into_openapi();
    describe(&mut document);
    document
}

fn routes() -> OpenApiRouter<Arc<Desk>> {
    let info =
        InfoBuilder::new().title("Forebay's admin API").version(env!("CARGO_PKG_VERSION")).build();
    let document = OpenApiBuilder::new().info(info).build();
    let all = configuration::router().merge(usage::router()).routes(routes!(openapi));
    OpenApiRouter::with_openapi(document)
        .nest(ROOT, all)
        .nest("/admin/v1/providers", providers::router().merge(operations::router()))
        .nest("/admin/v1/models", models::router())
        .nest("/admin/v1/keys", keys::router())
        .nest("/admin/v1/master-keys", keys::router())
        .nest("/admin/v1/users", users::router())
        .nest("/admin/v1/audit", audit::router())
}

/// This description.
#[utoipa::path(get, path = "/openapi.json", responses((status = 200)), security(()))]
async fn openapi() -> Answer {
    static DOCUMENT: std::sync::LazyLock<OpenApi> = std::sync::LazyLock::new(document);
    Ok(Json(&*DOCUMENT).into_response())
}

/// What the routes cannot say of themselves: how to prove who one is, and names that are unlike.
fn describe(document: &mut OpenApi) {
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    let components = document.components.get_or_insert_with(Components::new);
    components.add_security_scheme(SCHEME, SecurityScheme::Http(bearer));
    document.security = Some(vec![SecurityRequirement::new(SCHEME, Vec::<String>::new())]);
    for (path, item) in &mut document.paths.paths {
        let section = path.trim_start_matches(ROOT).trim_start_matches('/').to_owned();
        let words: Vec<&str> =
            section.split(['/', '{', '}', '-', '.']).filter(|it| !it.is_empty()).collect();
        let tag = section.split('/').next().unwrap_or_default().to_owned();
        let operations = [
            ("get", &mut item.get),
            ("put", &mut item.put),
            ("post", &mut item.post),
            ("delete", &mut item.delete),
            ("patch", &mut item.patch),
        ];
        for (method, operation) in operations {
            if let Some(operation) = operation {
                operation.operation_id = Some(format!("{method}_{}", words.join("_")));
                operation.tags = Some(vec![tag.clone()]);
            }
        }
    }
}
