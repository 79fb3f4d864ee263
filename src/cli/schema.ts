/** The JSON schema of `--config`, from the rules that check it. */

import { kinds } from '../config.js'
import * as is from '../rules.js'
import type { Rules, Schema } from '../rules.js'
import { about, modelSection, sections } from './settings.js'

export function configSchema(): Schema {
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'Settings of glowflow train',
    description: 'What each option may be by itself; the engine checks what one demands of another.',
    type: 'object',
    additionalProperties: false,
    properties: {
      $schema: is.path.schema,
      ...Object.fromEntries(Object.entries(sections).map(([section, rules]) => [section, ofRules(rules, section)])),
      model: { anyOf: kinds.map(ofModel) },
    },
  }
}

/** A model that does not say its kind is a Glow. */
function ofModel(kind: string): Schema {
  const rule = { ...is.oneOf(kind), required: kind !== 'glow' }
  return ofRules({ ...modelSection({ kind }), kind: rule }, 'model')
}

function ofRules(rules: Rules, path: string): Schema {
  const required = Object.keys(rules).filter((name) => rules[name]!.required)
  const properties = Object.entries(rules).flatMap(([name, rule]) => {
    const description = about[`${path}.${name}`]
    const schema = rule.rules ? ofRules(rule.rules, `${path}.${name}`) : rule.schema
    return schema ? [[name, { ...(description && { description }), ...schema }]] : []
  })
  return {
    type: 'object',
    additionalProperties: false,
    properties: Object.fromEntries(properties),
    ...(required.length > 0 && { required }),
  }
}
