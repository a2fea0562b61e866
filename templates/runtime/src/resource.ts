import {
  ProtocolError,
  ProtocolErrorCode,
  ResourceNotFoundError,
  type ReadResourceResult,
} from "@modelcontextprotocol/server";
import { callBody, type Caller, type Era, type Host } from "./call.ts";
import type { Catalog, CatalogResource } from "./catalog.ts";
import { BodyFailure } from "./failure.ts";
import type { InputNeeded } from "./input.ts";
import { toResourceResult } from "./result.ts";
import type { Variables } from "./uri-template.ts";

export async function readResource(
  host: Host,
  era: Era,
  uri: string,
  caller: Caller,
): Promise<ReadResourceResult | InputNeeded> {
  const found = findResource(host.catalog, uri);
  if (found === undefined) throw new ResourceNotFoundError(uri);
  const { resource, variables } = found;
  // Clients of the 2025 revisions know no such fields.
  const hint = era === "modern" ? resource.definition.cache : undefined;

  try {
    return await callBody(
      host,
      resource.body,
      caller,
      (context) => resource.body.run(uri, variables, host.environment, context),
      async (returned, bounds) => ({
        ...hint,
        ...(await toResourceResult(returned, uri, resource.definition.mimeType, bounds)),
      }),
    );
  } catch (error) {
    // A read has no `isError`: only a JSON-RPC error says that it failed.
    if (BodyFailure.is(error)) throw new ProtocolError(ProtocolErrorCode.InternalError, error.message);
    throw error;
  }
}

/** Of a URI that is a resource's: the same as of a definition's own. Two variables side by side are matched in a time that grows faster than it. */
const LONGEST_URI = 2048;

/** A resource with just this URI goes before templates, and templates go in the definition's order. */
export function findResource(catalog: Catalog, uri: string): { resource: CatalogResource; variables: Variables } | undefined {
  const fixed = catalog.resources.get(uri);
  if (fixed !== undefined) return { resource: fixed, variables: {} };
  if (uri.length > LONGEST_URI) return undefined;
  for (const resource of catalog.resourceTemplates) {
    const variables = resource.match(uri);
    if (variables !== undefined) return { resource, variables };
  }
  return undefined;
}
