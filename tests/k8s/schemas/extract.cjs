// Writes the schemas beside this file, from the npm packages @kubernetes-models/prometheus-operator and
// cert-manager. Their types say which fields there are, and their validators which patterns a text follows.
//
//   npm install --prefix DIR --ignore-scripts --legacy-peer-deps typescript@5.9 \
//     @kubernetes-models/prometheus-operator@6.0.0 @kubernetes-models/cert-manager@6.0.0
//   node tests/k8s/schemas/extract.cjs DIR/node_modules
"use strict";

const fs = require("node:fs");
const path = require("node:path");

const modules = path.resolve(process.argv[2]);
const ts = require(path.join(modules, "typescript"));
const { SyntaxKind } = ts;

const KINDS = {
  "prometheus-operator": ["monitoring.coreos.com/v1/PodMonitor", "monitoring.coreos.com/v1/PrometheusRule"],
  "cert-manager": ["cert-manager.io/v1/Certificate", "cert-manager.io/v1/Issuer"],
};
const PRUNED = /^ACME/; // No issuer here speaks ACME, whose schema holds whole pod templates.

/** The type declared first in the file at `file`, and what the file imports. */
function declaration(file) {
  const source = ts.createSourceFile(file, fs.readFileSync(file, "utf8"), ts.ScriptTarget.Latest, true);
  const imports = new Map();
  for (const statement of source.statements) {
    const named = statement.importClause?.namedBindings?.elements ?? [];
    for (const element of named) imports.set(element.name.text, statement.moduleSpecifier.text);
  }
  const type = source.statements.find((s) => ts.isInterfaceDeclaration(s) || ts.isTypeAliasDeclaration(s));
  return { type, imports };
}

/** The file that `specifier` means in a file of `folder`. */
function locate(specifier, folder) {
  const base = specifier.startsWith(".") ? path.resolve(folder, specifier) : path.join(modules, specifier);
  return base.replace(/\.js$/, "") + ".d.ts";
}

/** The pattern that the validator of the type called `name` begins with. */
function pattern(file, name) {
  const root = file.slice(0, file.indexOf(path.sep, modules.length + "/@kubernetes-models/".length));
  const validator = path.join(root, "_schemas", `${name.slice(1)}.js`);
  if (!fs.existsSync(validator)) return undefined;
  const found = /let pattern0=RegExp\(("(?:[^"\\]|\\.)*")/.exec(fs.readFileSync(validator, "utf8"));
  return found ? JSON.parse(found[1]) : undefined;
}

function extract(file) {
  const definitions = {};

  function define(name, file) {
    if (name in definitions) return;
    definitions[name] = {}; // Types may contain themselves.
    const { type, imports } = declaration(file);
    const scope = { imports, folder: path.dirname(file) };
    if (ts.isInterfaceDeclaration(type)) {
      definitions[name] = object(type.members, scope, type.heritageClauses);
    } else {
      definitions[name] = schema(type.type, scope);
      const found = definitions[name].type === "string" ? pattern(file, name) : undefined;
      if (found) definitions[name].pattern = found;
    }
  }

  function object(members, scope, heritage) {
    const properties = {};
    const required = [];
    for (const clause of heritage ?? []) {
      for (const { expression } of clause.types) {
        const specifier = scope.imports.get(expression.text);
        if (specifier === "@kubernetes-models/base") continue; // apiVersion and kind, which follow.
        const file = locate(specifier, scope.folder);
        const { type, imports } = declaration(file);
        const parent = object(type.members, { imports, folder: path.dirname(file) }, type.heritageClauses);
        Object.assign(properties, parent.properties);
        required.push(...(parent.required ?? []));
      }
    }
    let additionalProperties = false;
    for (const member of members) {
      if (ts.isIndexSignatureDeclaration(member)) {
        additionalProperties = schema(member.type, scope);
        continue;
      }
      properties[member.name.text] = schema(member.type, scope);
      if (!member.questionToken) required.push(member.name.text);
    }
    const made = { type: "object", additionalProperties };
    if (Object.keys(properties).length) made.properties = properties;
    if (required.length) made.required = required;
    return made;
  }

  function schema(node, scope) {
    switch (node.kind) {
      case SyntaxKind.StringKeyword:
        return { type: "string" };
      case SyntaxKind.NumberKeyword:
        return { type: "number" };
      case SyntaxKind.BooleanKeyword:
        return { type: "boolean" };
      case SyntaxKind.AnyKeyword:
      case SyntaxKind.UnknownKeyword:
        return {};
      case SyntaxKind.LiteralType:
        return { const: node.literal.kind === SyntaxKind.NullKeyword ? null : node.literal.text };
      case SyntaxKind.ArrayType:
        return { type: "array", items: schema(node.elementType, scope) };
      case SyntaxKind.ParenthesizedType:
        return schema(node.type, scope);
      case SyntaxKind.TypeLiteral:
        return object(node.members, scope);
      case SyntaxKind.UnionType: {
        const any = node.types.map((type) => schema(type, scope));
        return any.every((one) => "const" in one) ? { enum: any.map((one) => one.const) } : { anyOf: any };
      }
      case SyntaxKind.IntersectionType:
        return { allOf: node.types.map((type) => schema(type, scope)) };
      case SyntaxKind.TypeReference: {
        const name = node.typeName.text;
        if (name === "Array") return { type: "array", items: schema(node.typeArguments[0], scope) };
        const specifier = scope.imports.get(name);
        if (!specifier) throw new Error(`no import of ${name}`);
        if (PRUNED.test(path.basename(specifier))) return { type: "object" };
        define(name, locate(specifier, scope.folder));
        return { $ref: `#/$defs/${name}` };
      }
      default:
        throw new Error(`no schema for ${SyntaxKind[node.kind]}: ${node.getText()}`);
    }
  }

  const { type, imports } = declaration(file);
  const root = object(type.members, { imports, folder: path.dirname(file) }, type.heritageClauses);
  const $defs = {};
  for (const name of Object.keys(definitions).sort()) $defs[name] = definitions[name];
  return { ...root, $defs };
}


for (const [name, kinds] of Object.entries(KINDS)) {
  const folder = path.join(modules, "@kubernetes-models", name);
  const { version, license } = JSON.parse(fs.readFileSync(path.join(folder, "package.json"), "utf8"));
  for (const kind of kinds) {
    const made = {
      $schema: "https://json-schema.org/draft/2020-12/schema",
      $comment: `Extracted by extract.cjs from the npm package @kubernetes-models/${name} ${version} (${license}).`,
      ...extract(path.join(folder, `${kind}.d.ts`)),
    };
    fs.writeFileSync(path.join(__dirname, `${path.basename(kind)}.json`), `${JSON.stringify(made, null, 1)}\n`);
  }
}
