//! A server that asks its clients.

use serde_json::{Value, json};

pub(crate) fn definition() -> Value {
    let name = "{ message: 'Name?', requestedSchema: { type: 'object', properties: { name: { type: 'string' } }, required: ['name'] } }";
    json!({
        "name": "asking", "description": "Asks its clients.", "sessions": true,
        "cache": { "ttlMs": 5000, "cacheScope": "public" },
        "tools": [
            { "name": "interview", "description": "Asks all that can be asked.",
              "implementation": format!(
                  "const {{ content }} = await ctx.elicit({name}, {{ key: 'who' }});\n\
                   const messages = [{{ role: 'user', content: {{ type: 'text', text: content.name }} }}];\n\
                   const [model, {{ roots }}] = await Promise.all([ctx.sample({{ messages, maxTokens: 5 }}), ctx.listRoots()]);\n\
                   return `${{content.name}}: ${{model.content.text}} in ${{roots[0].uri}}`;") },
            { "name": "elicit", "description": "Asks one thing.",
              "implementation": format!("return await ctx.elicit({name});") },
            { "name": "capabilities", "description": "What the client can do.",
              "implementation": "return Object.keys(ctx.clientCapabilities).sort();" },
            { "name": "touch", "description": "Changes a resource.",
              "implementation": "await ctx.resourceUpdated('asked://watched');\nreturn 'touched';" }
        ],
        "resources": [
            { "uri": "asked://watched", "name": "watched", "implementation": "return 'x';", "cache": { "ttlMs": 7 } },
            { "uriTemplate": "asked://city/{name}", "name": "city", "implementation": "return variables.name;",
              "completion": { "name": ["Rome", "Riga", "Oslo"] } }
        ]
    })
}
