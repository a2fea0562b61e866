//! What `validate` accepts, what it refuses, and what its reader sees.

use metamcp_core::{ServerDefinition, ValidationErrors, validate};
use serde_json::{Value, json};

fn definition(value: Value) -> ServerDefinition {
    serde_json::from_value(value).unwrap()
}

/// The problems of a server with one tool, whose fields are `tool`'s and else sensible.
fn problems_of_tool(tool: Value) -> String {
    let mut whole = json!({ "name": "a_tool", "description": "Does a thing", "implementation": "return 1;" });
    whole.as_object_mut().unwrap().extend(tool.as_object().unwrap().clone());
    show(validate(&definition(json!({ "name": "server", "description": "A server", "tools": [whole] }))))
}

fn show<T>(result: Result<T, ValidationErrors>) -> String {
    result.err().map(|errors| errors.to_string()).unwrap_or_default()
}

const CREATE_ISSUE: &str = r#"
    const { repo, title, body } = parameters;
    const response = await fetch('https://api.github.com/repos/' + repo + '/issues', {
      method: 'POST',
      headers: { 'Authorization': 'token ' + env.GITHUB_TOKEN },
      body: JSON.stringify({ title, body })
    });
    const issue = await response.json();
    return {
      content: [{
        type: "text",
        text: "Created issue #" + issue.number
      }]
    };
  "#;

const OPTIMIZE_IMAGE: &str = r#"
    const { imageUrl, maxWidth = 1200 } = parameters;
    
    // Fetch image from URL
    const response = await fetch(imageUrl);
    const imageBuffer = await response.arrayBuffer();
    
    // Use Cloudflare Images API
    const optimized = await env.IMAGES.optimize(imageBuffer, {
      width: maxWidth,
      format: 'webp'
    });
    
    return {
      content: [{
        type: "image",
        data: optimized,
        mimeType: "image/webp"
      }]
    };
  "#;

#[test]
fn the_use_cases_validate_word_for_word() {
    let valid = validate(&definition(json!({
        "name": "use-cases",
        "description": "GitHub API tools for AI agents",
        "secrets": ["GITHUB_TOKEN"],
        "bindings": { "IMAGES": { "type": "service", "target": "image-worker" } },
        "tools": [{
            "name": "create_issue",
            "description": "Create a GitHub issue",
            "parameters": {
                "repo": { "type": "string", "required": true },
                "title": { "type": "string", "required": true },
                "body": { "type": "string", "required": false }
            },
            "implementation": CREATE_ISSUE
        }, {
            "name": "optimize_image",
            "description": "Optimize and resize images",
            "parameters": {
                "imageUrl": { "type": "string", "required": true },
                "maxWidth": { "type": "number", "required": false }
            },
            "implementation": OPTIMIZE_IMAGE
        }]
    })))
    .unwrap();
    assert_eq!(
        Value::Object(valid.tools()[0].input_schema.clone()),
        json!({
            "type": "object",
            "properties": { "repo": { "type": "string" }, "title": { "type": "string" }, "body": { "type": "string" } },
            "required": ["repo", "title"],
            "additionalProperties": false
        })
    );
    assert_eq!(valid.tools()[1].implementation, OPTIMIZE_IMAGE);
}
