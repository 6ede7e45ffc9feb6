"""Where the local workspace's answers differ from what azure-ai-ml 1.35.2 would read, model by model, and why."""

from __future__ import annotations

# Sent though the SDK's models do not know them: the service sends them (tests/data/wire).
UNKNOWN_TO_THE_SDK = {
    "Workspace": "etag",
    "WorkspaceProperties": "EnableSoftwareBillOfMaterials allowRoleAssignmentOnRG creationTime ipAllowlist "
    "linkedModelInventoryArmId networkAcls sasGetterUri sdkTelemetryAppInsightsKey softDeleteEnabled",
    "ManagedNetworkSettings": "changeableIsolationModes enableFirewallLog",
    "AmlCompute": "provisioningWarnings",
    "AmlComputeProperties": "enableBatchPrivateLink",
    "ManagedOnlineDeployment": "privateNetworkConnection",
    "CommandJob": "secretsConfiguration",
    "PipelineJob": "secretsConfiguration",
    "MLFlowModelJobOutput": "assetVersion autoDeleteSetting pathOnCompute",
    "Run": "currentAttemptId scheduleId",
    "User": "applicationACR clientApplicationId",
    "Compute": "armId instanceType properties",
    "ModelVersionProperties": "intellectualProperty originAssetId",
}

# Never sent, though the SDK's models know them: what they speak of does not exist here, or the service sends none in
# its samples either. All are optional to the SDK.
NOT_SENT = {
    "WorkspaceProperties": "allowPublicAccessWhenBehindVnet associatedWorkspaces encryption featureStoreSettings "
    "hubResourceId primaryUserAssignedIdentity privateEndpointConnections provisionNetworkNow "
    "serviceManagedResourcesSettings serviceProvisionedResourceGroup sharedPrivateLinkResources workspaceHubConfig",
    "ManagedNetworkSettings": "firewallPublicIpAddress firewallSku managedNetworkKind networkId outboundRules status",
    "ManagedServiceIdentity": "userAssignedIdentities",
    "Sku": "family size",
    "ComputeResource": "identity sku",
    "AmlComputeProperties": "userAccountCredentials",
    "AccountKeyDatastoreCredentials": "secrets",  # told by listSecrets only
    "OnlineEndpoint": "sku",
    "OnlineEndpointProperties": "keys",  # told by listKeys only
    "OnlineDeployment": "identity",
    "ManagedOnlineDeployment": "dataCollector startupProbe",
    "JobResourceConfiguration": "dockerArgsList",
    "Run": "activeChildRunId hasVirtualParent isVirtual options",
    "RunDetails": "hasVirtualParent jobCost",
    "Usage": "amlWorkspaceLocation",
    "ModelContainerProperties": "provisioningState",
    "ModelVersionProperties": "datasets provisioningState stage",
    "EnvironmentContainerProperties": "provisioningState",
    "EnvironmentVersionProperties": "provisioningState stage",
    "ComponentVersionProperties": "provisioningState",
    "ComponentContainerProperties": "provisioningState",
    "Registry": "kind sku",
    "RegistryProperties": "managedResourceGroupSettings registryPrivateEndpointConnections",
}


def as_sets(table: dict[str, str]) -> dict[str, set[str]]:
    """Return a table with its words apart."""
    return {name: set(words.split()) for name, words in table.items()}
